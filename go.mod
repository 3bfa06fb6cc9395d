module github.com/kirizan/kitt-agent

go 1.26
