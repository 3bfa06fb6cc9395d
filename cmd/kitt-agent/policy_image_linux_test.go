package main

import (
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kirizan/kitt-agent/runner/docker/dockertest"
)

// The server chooses among images that are on the machine.
func TestServerCannotChooseAnyImage(t *testing.T) {
	t.Parallel()
	engine, err := dockertest.Find(t.Context())
	if err != nil {
		require.Empty(t, os.Getenv("KITT_TEST_DOCKER"), "Docker Engine: %v", err)
		t.Skip("SKIPPED: no Docker Engine: ", err)
	}
	t.Cleanup(func() { require.NoError(t, engine.Close()) })
	unique := strconv.FormatInt(time.Now().UnixNano(), 36)
	own, evil, tools := "kitt-policy-own-"+unique+":1", "kitt-policy-evil-"+unique+":kitt", "registry.invalid/"+unique+"/kitt:2"
	h := newHostile(t, "docker", "kitt_image: "+own)
	for _, image := range []string{own, evil, tools} {
		require.NoError(t, engine.Build(t.Context(), image, h.prog.bin+"/kitt", ""))
		t.Cleanup(func() { require.NoError(t, engine.Remove(context.Background(), image)) })
	}
	inspected, err := engine.Client.ImageInspect(t.Context(), evil)
	require.NoError(t, err)
	id := inspected.ID
	for _, image := range []string{evil, id, strings.TrimPrefix(id, "sha256:")[:12], "kitt-policy-evil-" + unique, "alpine", "localhost:5000/kitt/evil"} {
		status := h.set(map[string]string{"kitt_image": image})
		require.Equal(t, own, status.Settings["kitt_image"])
		require.Contains(t, strings.Join(status.Warnings, "\n"), "add to agent.yaml: policy: {images: [", image)
	}
	_, log := h.test("fake:lines.1")
	require.Contains(t, log, "running in a container of the image "+own)
	require.Contains(t, log, "The setting kitt_image")
	for _, image := range []string{"--privileged", "a b", "kitt\n:x"} {
		require.Equal(t, own, h.set(map[string]string{"kitt_image": image}).Settings["kitt_image"])
	}

	require.Empty(t, h.set(map[string]string{"kitt_image": tools}).Warnings)
	_, log = h.test("fake:lines.1")
	require.Contains(t, log, "running in a container of the image "+tools)

	h.set(map[string]string{"kitt_image": "registry.invalid/absent/kitt:1"})
	_, log = h.test("fake:lines.1")
	require.Contains(t, log, "there is no image registry.invalid/absent/kitt:1 on this machine", "it is not pulled")
}
