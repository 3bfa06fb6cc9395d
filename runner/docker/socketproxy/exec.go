package socketproxy

import (
	"context"
	"net/http"

	"github.com/moby/moby/api/types/container"
)

// createExec prepares a command in one of the job's own containers.
func (p *Proxy) createExec(ctx context.Context, w http.ResponseWriter, r *http.Request, route route) error {
	var asked container.ExecCreateRequest
	if err := decode(r, &asked); err != nil {
		return err
	}
	if asked.Privileged {
		return refuse("a command in a container may not be privileged")
	}
	id, err := p.own(ctx, route.version, route.ref)
	if err != nil {
		return err
	}
	body := container.ExecCreateRequest{
		User: asked.User, Tty: asked.Tty, Env: asked.Env, WorkingDir: asked.WorkingDir, Cmd: asked.Cmd, DetachKeys: asked.DetachKeys,
		AttachStdin: asked.AttachStdin, AttachStdout: asked.AttachStdout, AttachStderr: asked.AttachStderr,
	}
	return p.forward(ctx, w, call{method: http.MethodPost, path: route.version + "/containers/" + id + "/exec", body: body})
}

// ownExec returns an error unless the command is in one of the job's own containers.
func (p *Proxy) ownExec(ctx context.Context, route route) error {
	if !fullID.MatchString(route.ref) {
		return noExec(route.ref)
	}
	var exec struct{ ContainerID string }
	found, err := p.engine.get(ctx, route.version+"/exec/"+route.ref+"/json", nil, &exec)
	if err != nil {
		return err
	}
	if !found || !fullID.MatchString(exec.ContainerID) {
		return noExec(route.ref)
	}
	if _, err := p.own(ctx, route.version, exec.ContainerID); err != nil {
		return noExec(route.ref)
	}
	return nil
}

// inspectExec answers with how a command does.
func (p *Proxy) inspectExec(ctx context.Context, w http.ResponseWriter, route route) error {
	if err := p.ownExec(ctx, route); err != nil {
		return err
	}
	return p.forward(ctx, w, call{method: http.MethodGet, path: route.version + "/exec/" + route.ref + "/json"})
}

// startExec starts a command. Unless it is to run by itself, the connection becomes its
// streams.
func (p *Proxy) startExec(w http.ResponseWriter, r *http.Request, route route) error {
	var asked container.ExecStartRequest
	if err := decode(r, &asked); err != nil {
		return err
	}
	if err := p.ownExec(r.Context(), route); err != nil {
		return err
	}
	c := call{
		method: http.MethodPost, path: route.version + "/exec/" + route.ref + "/start",
		body: container.ExecStartRequest{Detach: asked.Detach, Tty: asked.Tty},
	}
	if asked.Detach {
		return p.forward(r.Context(), w, c)
	}
	if r.Header.Get("Upgrade") != "tcp" {
		return invalid("the streams of a command need a connection with Upgrade: tcp")
	}
	return p.upgrade(w, r, c)
}
