package imagebuild_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/kirizan/kitt-agent/runner/docker/imagebuild"
)

// A build context from elsewhere is checked while it streams by: nothing in it
// may lead out of it.
func ExampleRepack() {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.WriteHeader(&tar.Header{Name: "../../etc/cron.d/job", Mode: 0o600, Typeflag: tar.TypeReg}); err != nil {
		fmt.Println(err)
	}
	w.Close()
	err := imagebuild.Repack(context.Background(), io.Discard, &archive, "Dockerfile", imagebuild.DefaultLimits)
	_, refused := errors.AsType[*imagebuild.ContextError](err)
	fmt.Println(refused)
	// Output: true
}
