// A library with the least of NVML's functions: one GPU, and nothing that came
// after 2011. Tests compile and load it.

#include <string.h>

struct memory { unsigned long long total, free, used; };

int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int result) { return "stub"; }
int nvmlSystemGetDriverVersion(char *version, unsigned n) { strncpy(version, "1.2.3", n); return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **device) { *device = &device; return 0; }
int nvmlDeviceGetName(void *device, char *name, unsigned n) { strncpy(name, "Stub", n); return 0; }
int nvmlDeviceGetUUID(void *device, char *uuid, unsigned n) { strncpy(uuid, "GPU-stub", n); return 0; }
int nvmlDeviceGetMemoryInfo(void *device, struct memory *m) { m->total = 3ULL << 30; m->free = 2ULL << 30; m->used = 1ULL << 30; return 0; }
