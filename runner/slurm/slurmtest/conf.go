package slurmtest

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const clusterName = "kitt"

// cores is how many each node says that it has, whatever the machine has.
const cores = 64

// writeFiles writes what the daemons read. The directory is the cluster's own.
func (c *Cluster) writeFiles() error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	host, _, _ = strings.Cut(host, ".")
	ports, err := freePorts(2 + c.cfg.Nodes)
	if err != nil {
		return err
	}
	for _, dir := range []string{"state", "dev"} {
		if err := os.MkdirAll(c.path(dir), 0o700); err != nil {
			return err
		}
	}
	key := make([]byte, 64)
	_, _ = rand.Read(key) // it never fails
	if err := os.WriteFile(c.path("munge.key"), key, 0o600); err != nil {
		return err
	}
	var gres bytes.Buffer
	fmt.Fprintln(&gres, "AutoDetect=off")
	for i := range c.cfg.Nodes {
		node := "n" + strconv.Itoa(i+1)
		for gpu := range c.cfg.GPUs {
			if err := makeGPU(filepath.Join(c.path("dev"), fmt.Sprintf("%sgpu%d", node, gpu))); err != nil {
				return fmt.Errorf("make a GPU: %w", err)
			}
		}
		fmt.Fprintf(&gres, "NodeName=%s Name=gpu Type=h200 File=%s/%sgpu[0-%d]\n", node, c.path("dev"), node, c.cfg.GPUs-1)
	}
	if err := os.WriteFile(c.path("gres.conf"), gres.Bytes(), 0o600); err != nil {
		return err
	}
	if c.cfg.Accounting {
		if err := os.WriteFile(c.path("slurmdbd.conf"), []byte(c.accountingConf(host, ports[1])), 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(c.path("slurm.conf"), []byte(c.conf(host, ports)), 0o600)
}

// conf returns slurm.conf. What takes minutes by default takes seconds.
func (c *Cluster) conf(host string, ports []int) string {
	lines := []string{
		"ClusterName=" + clusterName,
		fmt.Sprintf("SlurmctldHost=%s(127.0.0.1)", host),
		"SlurmctldPort=" + strconv.Itoa(ports[0]),
		"SlurmUser=root",
		"SlurmdUser=root",
		"AuthType=auth/munge",
		"AuthInfo=socket=" + c.path("munge.sock"),
		"CredType=cred/munge",
		"MpiDefault=none",
		"StateSaveLocation=" + c.path("state"),
		"SlurmdSpoolDir=" + c.path("spool.%n"),
		"SlurmctldPidFile=" + c.path("slurmctld.pid"),
		"SlurmdPidFile=" + c.path("slurmd.%n.pid"),
		"ProctrackType=proctrack/linuxproc",
		"TaskPlugin=task/none",
		"SlurmdParameters=config_overrides",
		"SelectType=select/cons_tres",
		"SelectTypeParameters=CR_Core",
		"GresTypes=gpu",
		"KillWait=5",
		"MinJobAge=15",
		"MessageTimeout=5",
		"SlurmdTimeout=30",
		"SchedulerParameters=sched_interval=2,batch_sched_delay=0",
		"ReturnToService=2",
		"MaxJobCount=100000",
	}
	if c.cfg.Accounting {
		lines = append(lines, "AccountingStorageType=accounting_storage/slurmdbd", "AccountingStorageHost=127.0.0.1",
			"AccountingStoragePort="+strconv.Itoa(ports[1]), "AccountingStoragePass="+c.path("munge.sock"),
			"AccountingStorageTRES=gres/gpu")
	}
	for _, line := range c.cfg.Lines {
		key, _, _ := strings.Cut(line, "=")
		kept := lines[:0]
		for _, l := range lines {
			if k, _, _ := strings.Cut(l, "="); k != key {
				kept = append(kept, l)
			}
		}
		lines = append(kept, line)
	}
	for i := range c.cfg.Nodes {
		lines = append(lines, fmt.Sprintf("NodeName=n%d NodeHostname=%s NodeAddr=127.0.0.1 Port=%d CPUs=%d RealMemory=1000 Gres=gpu:h200:%d State=UNKNOWN",
			i+1, host, ports[2+i], cores, c.cfg.GPUs))
	}
	lines = append(lines, fmt.Sprintf("PartitionName=%s Nodes=ALL Default=YES MaxTime=INFINITE State=UP", Partition))
	return strings.Join(lines, "\n") + "\n"
}

// accountingConf returns slurmdbd.conf, which is in the same directory as slurm.conf.
func (c *Cluster) accountingConf(host string, port int) string {
	return strings.Join([]string{
		"AuthType=auth/munge",
		"AuthInfo=socket=" + c.path("munge.sock"),
		"DbdHost=" + host,
		"DbdAddr=127.0.0.1",
		"DbdPort=" + strconv.Itoa(port),
		"SlurmUser=root",
		"PidFile=" + c.path("slurmdbd.pid"),
		"StorageType=accounting_storage/mysql",
		"StorageUser=root",
		"StorageLoc=slurm_acct_db",
	}, "\n") + "\n"
}
