package main

import (
	"cmp"

	"github.com/kirizan/kitt-agent/agent/policy"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/config"
	"github.com/kirizan/kitt-agent/storage"
)

// policyOf returns the policy in force: what agent.yaml names, over the defaults.
func policyOf(cfg *config.Config) policy.Policy {
	p := policy.Default(policy.Machine{
		StorageDir: cmp.Or(cfg.ModelStorageDir, "~/.kitt/models"), ShareMount: cfg.ModelShareMount, Image: cfg.KITTImage, Dir: cfg.Home,
	})
	if cfg.Policy.ServerMaySet != nil {
		p.ServerMaySet = cfg.Policy.ServerMaySet
	}
	if len(cfg.Policy.StorageDirs) > 0 {
		p.StorageDirs = cfg.Policy.StorageDirs
	}
	if cfg.Policy.Shares != nil {
		p.Shares = cfg.Policy.Shares
	}
	p.ModelDirs = append(append(p.ModelDirs, cfg.Policy.ModelDirs...), cfg.Models.Dirs...) // never nil, which would allow any
	if cfg.Policy.Engines.Start != nil {
		p.StartEngines = cfg.Policy.Engines.Start
	}
	p.InstallEngines = append(p.InstallEngines, cfg.Policy.Engines.Install...)
	p.ProfileKeys = append(p.ProfileKeys, cfg.Policy.ProfileKeys...) // likewise
	switch {
	case len(cfg.Policy.Images) > 0:
		p.Images = cfg.Policy.Images
	case len(cfg.AllowedImages) > 0:
		p.Images = nil // the agent checks AllowedImages itself
	}
	return p
}

// guardStorage makes a storage ask the policy before it uses what the server named.
func guardStorage(c storage.Config, p policy.Policy) storage.Config {
	c.ModelDirs = p.ModelDirs // what may be used there may be linked to
	c.OpenDir, c.CheckShare, c.CheckModel = p.OpenStorageDir, p.CheckShareMount, p.CheckModel
	return c
}
