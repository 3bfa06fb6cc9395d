module github.com/kirizan/kitt-agent

go 1.26.0

require (
	github.com/DeRuina/timberjack v1.4.9
	github.com/google/renameio/v2 v2.0.2
	github.com/lmittmann/tint v1.2.1
	github.com/stretchr/testify v1.12.1
	go.uber.org/goleak v1.3.0
	go.yaml.in/yaml/v3 v3.0.6
	golang.org/x/term v0.47.0
)

require (
	github.com/klauspost/compress v1.18.7 // indirect
	golang.org/x/sys v0.49.0 // indirect
)
