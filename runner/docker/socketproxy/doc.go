// Package socketproxy stands between a benchmark and the container engine, so that a
// benchmark controls its own containers and nothing else.
//
// A benchmark starts inference engines in containers next to its own. The engine's
// socket itself would give it root on the machine. A [Proxy] serves the part of the
// engine's API that `kitt run` uses on a socket of the job's own, and decides every
// request by a [Policy].
//
// # Requests
//
// No byte of the benchmark's is passed on as it came. A path is parsed into a route,
// a query into known parameters, a body into the types of package
// github.com/moby/moby/api, and a new request is made of the parts that are allowed.
// A field that is set and not known as harmless is refused by its name. So the case of
// a key, a duplicate one, or what the engine's and this program's parsers might read
// differently makes no difference.
//
//	HEAD, GET /_ping, GET /version   as they are
//	GET /info                        what says nothing about others
//	GET /images/NAME/json            images of the policy
//	POST /images/create              a pull of an image of the policy
//	POST /containers/create          rewritten, see below
//	GET /containers/json             the job's own containers
//	GET /containers/ID/json, logs    of the job's own containers
//	POST /containers/ID/start, stop, kill, wait, exec; DELETE /containers/ID
//	POST /exec/ID/start, GET /exec/ID/json
//
// Everything else is answered with 403 and a text that the docker command prints.
//
// A container is the job's own if it has the label [LabelEngine] with the job's ID.
// The proxy asks the engine for the label before each call and then uses the
// container's full ID, so a name that changes its owner in between is harmless.
//
// # Created containers
//
// A container gets the job's label, a name that no other job has, the GPUs of the job
// in place of those that it asks for, a limit of processes, a bounded log, and mounts
// of the model (read-only), the results and the caches of the policy. The engine follows
// links in the source of a mount after the proxy has looked at it. So of directories
// that the benchmark can write to only the directory itself may be mounted, which the
// benchmark can't replace, and nothing below it.
//
// # The process
//
// One process per job serves the socket: see [Start]. It outlives the agent, because a
// pull and an exec are single connections that last for minutes. Its files are in one
// directory:
//
//	policy.json   written before its start, and never again
//	lock          locked (flock) for as long as it lives
//	proxy.json    which process it is
//	log           what it refused, bounded
//	engine/       mounted into the benchmark's container, with docker.sock in it
//
// [End] ends it. It then completes the creations that the engine has begun, so that
// whoever lists the job's containers afterwards finds all of them.
package socketproxy
