// Command nfsfuse mounts a directory as a slow share, as NFS over a network is:
// every request takes a while and every open file has a limit of its own. Its
// tests give the copy engine the faults that a share can have.
package main

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// maxRequest is the size of one read, as of a good NFS mount (rsize).
const maxRequest = 1 << 20

// A share is a directory with a network in front of it.
type share struct {
	latency time.Duration // of each request
	limit   int64         // bytes a second of each open file; 0 for none

	read atomic.Int64 // bytes that were read

	// fault, if set, may fail a request or hold it up.
	fault func(op, path string, off int64) syscall.Errno
}

func (s *share) wait(op, path string, off int64) syscall.Errno {
	if s.latency > 0 {
		time.Sleep(s.latency)
	}
	if s.fault != nil {
		return s.fault(op, path, off)
	}
	return 0
}

// mount mounts the share of directory dir at mnt. Attributes are cached for a
// moment, as an NFS client does.
func (s *share) mount(dir, mnt string) (*fuse.Server, error) {
	root := &fs.LoopbackRoot{Path: dir}
	root.NewNode = func(data *fs.LoopbackRoot, _ *fs.Inode, _ string, _ *syscall.Stat_t) fs.InodeEmbedder {
		return &node{LoopbackNode: fs.LoopbackNode{RootData: data}, share: s}
	}
	top := root.NewNode(root, nil, "", nil)
	root.RootNode = top
	cached := time.Second
	// A read of maxRequest and its header don't fit into a pipe, so splice would
	// fail each time.
	return fs.Mount(mnt, top, &fs.Options{
		AttrTimeout: &cached, EntryTimeout: &cached,
		MountOptions: fuse.MountOptions{MaxWrite: maxRequest, MaxReadAhead: maxRequest, MaxBackground: 64, DirectMount: true, DisableSplice: true, FsName: "nfsfuse", Name: "nfsfuse"},
	})
}

type node struct {
	fs.LoopbackNode
	share *share
}

func (n *node) where() string { return n.Path(n.Root()) }

func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno := n.share.wait("lookup", filepath.Join(n.where(), name), 0); errno != 0 {
		return nil, errno
	}
	return n.LoopbackNode.Lookup(ctx, name, out)
}

func (n *node) Getattr(ctx context.Context, f fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	if errno := n.share.wait("getattr", n.where(), 0); errno != 0 {
		return errno
	}
	return n.LoopbackNode.Getattr(ctx, nil, out)
}

func (n *node) Readlink(ctx context.Context) ([]byte, syscall.Errno) {
	if errno := n.share.wait("readlink", n.where(), 0); errno != 0 {
		return nil, errno
	}
	return n.LoopbackNode.Readlink(ctx)
}

func (n *node) OpendirHandle(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if errno := n.share.wait("opendir", n.where(), 0); errno != 0 {
		return nil, 0, errno
	}
	return n.LoopbackNode.OpendirHandle(ctx, flags)
}

func (n *node) Open(_ context.Context, _ uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if errno := n.share.wait("open", n.where(), 0); errno != 0 {
		return nil, 0, errno
	}
	f, err := os.Open(filepath.Join(n.RootData.Path, n.where()))
	if err != nil {
		return nil, 0, fs.ToErrno(err)
	}
	return &file{node: n, f: f}, 0, 0
}

type file struct {
	node *node
	f    *os.File
	mu   sync.Mutex
	free time.Time // when the stream may carry the next byte
}

func (f *file) Read(_ context.Context, p []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if errno := f.node.share.wait("read", f.node.where(), off); errno != 0 {
		return nil, errno
	}
	n, err := f.f.ReadAt(p, off)
	if n == 0 && err != nil && err.Error() != "EOF" {
		return nil, fs.ToErrno(err)
	}
	f.node.share.read.Add(int64(n))
	if limit := f.node.share.limit; limit > 0 {
		f.mu.Lock()
		now := time.Now()
		if f.free.Before(now) {
			f.free = now
		}
		f.free = f.free.Add(time.Duration(int64(n) * int64(time.Second) / limit))
		until := f.free
		f.mu.Unlock()
		time.Sleep(time.Until(until))
	}
	return fuse.ReadResultData(p[:n]), 0
}

func (f *file) Release(context.Context) syscall.Errno { return fs.ToErrno(f.f.Close()) }
