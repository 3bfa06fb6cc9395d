package policy_test

import (
	"fmt"

	"github.com/kirizan/kitt-agent/agent/policy"
	"github.com/kirizan/kitt-agent/storage"
)

// A program that embeds the agent gives the same policy to the agent and to its
// storage.
func ExampleDefault() {
	p := policy.Default(policy.Machine{StorageDir: "/data/models", Dir: "/var/lib/bench"})
	p.ModelDirs = []string{"/opt/models"}

	models := storage.Config{OpenDir: p.OpenStorageDir, CheckShare: p.CheckShareMount, CheckModel: p.CheckModel}
	fmt.Println(models.CheckModel("/opt/models/llama"))
	fmt.Println(p.CheckSetting(policy.ModelStorageDir, "/etc/cron.d"))
	// Output:
	// <nil>
	// it is not below /home/, /data/, /srv/, /mnt/, /media/, /var/lib/ (to allow it, add to agent.yaml: policy: {storage_dirs: [/etc/cron.d]})
}
