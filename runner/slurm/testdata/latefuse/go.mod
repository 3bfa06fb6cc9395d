module github.com/kirizan/kitt-agent/runner/slurm/testdata/latefuse

go 1.26.0

replace github.com/kirizan/kitt-agent => ../../../..

require (
	github.com/hanwen/go-fuse/v2 v2.12.1
	github.com/kirizan/kitt-agent v0.0.0-00010101000000-000000000000
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/google/renameio/v2 v2.0.2 // indirect
	go.yaml.in/yaml/v3 v3.0.6 // indirect
	golang.org/x/sys v0.49.0 // indirect
)
