// A library with those of NVML's functions that this project calls. It plays the file
// that the variable KITT_NVML_SCRIPT names, which package nvmltest writes:
//
//	epoch MS                      when the script begins, in ms since 1970
//	AT GPU KEY VALUE RATE         from AT ms on, KEY is VALUE and grows by RATE a second
//
// The last line that applies counts. GPU is an index, or -1 for all. The file is read
// at each call, so a test may replace it.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef unsigned long long u64;
enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, TIMEOUT = 10, LOST = 15 };
enum { MAX_GPUS = 16, MAX_LINES = 1000 };

static int gpus[MAX_GPUS];

static double now_ms(void) {
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

// look returns whether a key of a GPU has a value now.
static int look(int gpu, const char *want, double *value) {
	const char *path = getenv("KITT_NVML_SCRIPT");
	FILE *f = path ? fopen(path, "r") : NULL;
	if (!f) return 0;
	double epoch = 0, best = -1, at, v, rate;
	int g, found = 0;
	char line[256], key[64];
	while (fgets(line, sizeof line, f)) {
		if (sscanf(line, "epoch %lf", &epoch) == 1) continue;
		if (sscanf(line, "%lf %d %63s %lf %lf", &at, &g, key, &v, &rate) != 5) continue;
		double since = now_ms() - epoch - at;
		if ((g != gpu && g != -1) || strcmp(key, want) || since < 0 || at < best) continue;
		best = at;
		*value = v + rate * since / 1e3;
		found = 1;
	}
	fclose(f);
	return found;
}

static int index_of(void *device) { return (int)((int *)device - gpus); }

// hang waits while the script says so.
static void hang(void) {
	double v;
	while (look(-1, "hang", &v) && v > 0) {
		struct timespec pause = {0, 20000000};
		nanosleep(&pause, NULL);
	}
}

static int get(void *device, const char *key, double *v) {
	double lost;
	hang();
	if (look(index_of(device), "lost", &lost) && lost > 0) return LOST;
	return look(index_of(device), key, v) ? SUCCESS : NOT_SUPPORTED;
}

static int get_unsigned(void *device, const char *key, unsigned *out) {
	double v;
	int ret = get(device, key, &v);
	if (ret == SUCCESS) *out = (unsigned)v;
	return ret;
}

static int get_u64(void *device, const char *key, u64 *out) {
	double v;
	int ret = get(device, key, &v);
	if (ret == SUCCESS) *out = (u64)v;
	return ret;
}

int nvmlInit_v2(void) { return SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int result) { return "scripted"; }
int nvmlSystemGetDriverVersion(char *s, unsigned n) { strncpy(s, "570.1.2", n); return SUCCESS; }
int nvmlSystemGetCudaDriverVersion(int *v) { *v = 12080; return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *count) {
	double v = 0;
	hang();
	look(-1, "gpus", &v);
	*count = v > MAX_GPUS ? MAX_GPUS : (unsigned)v;
	return SUCCESS;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **device) {
	if (i >= MAX_GPUS) return INVALID_ARGUMENT;
	*device = &gpus[i];
	return SUCCESS;
}
int nvmlDeviceGetName(void *d, char *s, unsigned n) { strncpy(s, "NVIDIA H100 80GB HBM3", n); return SUCCESS; }
int nvmlDeviceGetUUID(void *d, char *s, unsigned n) { snprintf(s, n, "GPU-scripted-%d", index_of(d)); return SUCCESS; }
int nvmlDeviceGetVbiosVersion(void *d, char *s, unsigned n) { strncpy(s, "96.00.1", n); return SUCCESS; }
int nvmlDeviceGetCudaComputeCapability(void *d, int *major, int *minor) { *major = 9; *minor = 0; return SUCCESS; }

struct pci { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; };
int nvmlDeviceGetPciInfo(void *d, struct pci *p) {
	memset(p, 0, sizeof *p);
	snprintf(p->bus_id, sizeof p->bus_id, "00000000:%02X:00.0", index_of(d) + 1);
	return SUCCESS;
}
int nvmlDeviceGetPciInfo_v3(void *d, struct pci *p) { return nvmlDeviceGetPciInfo(d, p); }

struct memory { u64 total, free, used; };
int nvmlDeviceGetMemoryInfo(void *d, struct memory *m) {
	m->total = 80ULL << 30;
	m->used = 1ULL << 30;
	m->free = m->total - m->used;
	return SUCCESS;
}

struct utilization { unsigned gpu, memory; };
int nvmlDeviceGetUtilizationRates(void *d, struct utilization *u) { u->memory = 0; return get_unsigned(d, "utilization", &u->gpu); }
int nvmlDeviceGetTemperature(void *d, int sensor, unsigned *v) { return get_unsigned(d, "temperature", v); }
int nvmlDeviceGetPowerUsage(void *d, unsigned *v) { return get_unsigned(d, "power_mw", v); }
int nvmlDeviceGetTotalEnergyConsumption(void *d, u64 *v) { return get_u64(d, "energy_mj", v); }
int nvmlDeviceGetEnforcedPowerLimit(void *d, unsigned *v) { return get_unsigned(d, "power_limit_mw", v); }
int nvmlDeviceGetPowerManagementDefaultLimit(void *d, unsigned *v) { return get_unsigned(d, "default_power_limit_mw", v); }
int nvmlDeviceGetPersistenceMode(void *d, unsigned *v) { return get_unsigned(d, "persistence", v); }
int nvmlDeviceGetComputeMode(void *d, unsigned *v) { return get_unsigned(d, "compute_mode", v); }
int nvmlDeviceGetEccMode(void *d, unsigned *now, unsigned *pending) { *pending = 0; return get_unsigned(d, "ecc_mode", now); }
int nvmlDeviceGetPerformanceState(void *d, unsigned *v) { return get_unsigned(d, "pstate", v); }
int nvmlDeviceGetClockInfo(void *d, unsigned kind, unsigned *v) { return get_unsigned(d, kind == 2 ? "memory_clock" : "sm_clock", v); }
int nvmlDeviceGetMaxClockInfo(void *d, unsigned kind, unsigned *v) { return get_unsigned(d, "max_sm_clock", v); }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *d, u64 *v) { return get_u64(d, "reasons", v); }
int nvmlDeviceGetCurrPcieLinkGeneration(void *d, unsigned *v) { return get_unsigned(d, "pcie_gen", v); }
int nvmlDeviceGetCurrPcieLinkWidth(void *d, unsigned *v) { return get_unsigned(d, "pcie_width", v); }
int nvmlDeviceGetMaxPcieLinkGeneration(void *d, unsigned *v) { return get_unsigned(d, "max_pcie_gen", v); }
int nvmlDeviceGetMaxPcieLinkWidth(void *d, unsigned *v) { return get_unsigned(d, "max_pcie_width", v); }
int nvmlDeviceGetPcieReplayCounter(void *d, unsigned *v) { return get_unsigned(d, "pcie_replays", v); }
int nvmlDeviceGetTotalEccErrors(void *d, int kind, int counter, u64 *v) {
	return get_u64(d, kind == 1 ? "ecc_uncorrected" : "ecc_corrected", v);
}
int nvmlDeviceGetRemappedRows(void *d, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed) {
	*corrected = *uncorrected = *failed = 0;
	return get_unsigned(d, "remap_pending", pending);
}

struct field { unsigned id, scope; long long timestamp, latency; unsigned type; int ret; u64 value; };
int nvmlDeviceGetFieldValues(void *d, int n, struct field *f) {
	char key[32];
	for (int i = 0; i < n; i++) {
		snprintf(key, sizeof key, "field.%u", f[i].id);
		f[i].type = 3; // unsigned long long
		f[i].ret = get_u64(d, key, &f[i].value);
		if (f[i].ret == LOST) return LOST;
	}
	return SUCCESS;
}

// Processes are keys: proc.PID is its memory in bytes, sm.PID its use of the SMs in %.
static int pids_of(void *d, unsigned *pids) {
	const char *path = getenv("KITT_NVML_SCRIPT");
	FILE *f = path ? fopen(path, "r") : NULL;
	char line[256];
	double at, v;
	int g, n = 0;
	unsigned pid;
	if (!f) return 0;
	while (fgets(line, sizeof line, f) && n < MAX_LINES) {
		if (sscanf(line, "%lf %d proc.%u", &at, &g, &pid) != 3) continue;
		char key[32];
		snprintf(key, sizeof key, "proc.%u", pid);
		int known = !look(index_of(d), key, &v) || v <= 0;
		for (int i = 0; i < n; i++) known = known || pids[i] == pid;
		if (!known) pids[n++] = pid;
	}
	fclose(f);
	return n;
}

struct process { unsigned pid; u64 memory; unsigned instance, compute; };
int nvmlDeviceGetComputeRunningProcesses(void *d, unsigned *count, struct process *p) {
	unsigned pids[MAX_LINES], n;
	hang();
	n = pids_of(d, pids);
	if (*count < n) { *count = n; return INSUFFICIENT_SIZE; }
	for (unsigned i = 0; i < n; i++) {
		char key[32];
		double memory = 0;
		snprintf(key, sizeof key, "proc.%u", pids[i]);
		look(index_of(d), key, &memory);
		p[i] = (struct process){pids[i], (u64)memory, ~0u, ~0u};
	}
	*count = n;
	return SUCCESS;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *d, unsigned *count, struct process *p) {
	return nvmlDeviceGetComputeRunningProcesses(d, count, p);
}

struct process_use { unsigned pid; u64 timestamp; unsigned sm, memory, encoder, decoder; };
int nvmlDeviceGetProcessUtilization(void *d, struct process_use *u, unsigned *count, u64 since) {
	unsigned pids[MAX_LINES], n;
	hang();
	n = pids_of(d, pids);
	if (n == 0) return NOT_FOUND;
	if (!u || *count < n) { *count = n; return INSUFFICIENT_SIZE; }
	for (unsigned i = 0; i < n; i++) {
		char key[32];
		double sm = 0;
		snprintf(key, sizeof key, "sm.%u", pids[i]);
		look(index_of(d), key, &sm);
		u[i] = (struct process_use){pids[i], (u64)(now_ms() * 1e3), (unsigned)sm, 0, 0, 0};
	}
	*count = n;
	return SUCCESS;
}

// An XID is told once per session: the key xid of a GPU is its code.
static unsigned told[MAX_GPUS];
struct event { void *device; u64 type, data; unsigned instance, compute; };
int nvmlEventSetCreate(void **set) { *set = told; return SUCCESS; }
int nvmlEventSetFree(void *set) { return SUCCESS; }
int nvmlDeviceRegisterEvents(void *d, u64 types, void *set) { return SUCCESS; }
int nvmlEventSetWait(void *set, struct event *e, unsigned timeout) {
	for (int i = 0; i < MAX_GPUS; i++) {
		double v;
		if (look(i, "xid", &v) && (unsigned)v != told[i]) {
			told[i] = (unsigned)v;
			*e = (struct event){&gpus[i], 8, told[i], ~0u, ~0u};
			if (told[i]) return SUCCESS;
		}
	}
	return TIMEOUT;
}
int nvmlEventSetWait_v2(void *set, struct event *e, unsigned timeout) { return nvmlEventSetWait(set, e, timeout); }
