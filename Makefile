.PHONY: build test dist dist-check

build: ## this machine's kitt-agent, with NVML where there is a C compiler
	CGO_CFLAGS='-g -O2 -Wno-deprecated-declarations' go build -tags nvml -o kitt-agent ./cmd/kitt-agent

test:
	go test ./...

dist: ## all that is released, in dist/
	go run ./scripts/dist -o dist

dist-check: ## two builds of one commit, in two places, give the same bytes
	scripts/dist-check.sh
