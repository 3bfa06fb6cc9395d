package socketproxy

import (
	"reflect"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
)

// What is known of the fields of a request to create a container: those that are
// carried over, and those that are left out without harm. Any other that is set is
// refused, also one that a later version of the API brings.
var (
	configFields = []string{
		"User", "Tty", "AttachStdin", "AttachStdout", "AttachStderr", "OpenStdin", "StdinOnce", "Env", "Cmd", "Entrypoint",
		"WorkingDir", "Healthcheck", "StopSignal", "StopTimeout", "Image",
		// Left out: without a network of its own a container has no use for them, and
		// labels can tell other programs of the machine what to do with it.
		"Hostname", "Domainname", "ExposedPorts", "Labels",
	}
	hostFields = []string{
		"Binds", "Mounts", "NetworkMode", "AutoRemove", "CapDrop", "IpcMode", "ReadonlyRootfs", "Init", "ShmSize", "RestartPolicy",
		"Memory", "NanoCPUs", "CpusetCpus", "CpusetMems", "Ulimits", "MemorySwappiness", "CgroupnsMode", "Isolation", "DeviceRequests",
		// Replaced or left out: ports are the machine's own with its network.
		"LogConfig", "PidsLimit", "Runtime", "PortBindings", "PublishAllPorts", "ConsoleSize", "ContainerIDFile",
	}
)

// ulimits are those that a container may set: what engines on GPUs are told to.
var ulimits = []string{"memlock", "stack", "core"}

// refuseOthers refuses what a benchmark may not ask for, by its name.
func refuseOthers(asked container.CreateRequest) error {
	fields := append(unknown("", *asked.Config, configFields), unknown("HostConfig.", *asked.HostConfig, hostFields)...)
	host := asked.HostConfig
	denied := func(not bool, field, value string) {
		if not {
			fields = append(fields, "HostConfig."+field+" "+value)
		}
	}
	denied(!oneOf(host.NetworkMode, "", "default", "host", "bridge", "none"), "NetworkMode", string(host.NetworkMode))
	denied(!oneOf(host.IpcMode, "", "private", "none", "shareable"), "IpcMode", string(host.IpcMode))
	denied(!oneOf(host.CgroupnsMode, "", "private"), "CgroupnsMode", string(host.CgroupnsMode))
	denied(!oneOf(host.Isolation, "", "default"), "Isolation", string(host.Isolation))
	denied(!oneOf(host.RestartPolicy.Name, "", "no"), "RestartPolicy", string(host.RestartPolicy.Name))
	denied(host.ShmSize < 0, "ShmSize", "below 0")
	denied(host.Memory < 0 || host.NanoCPUs < 0, "Resources", "below 0")
	for _, limit := range host.Ulimits {
		denied(limit == nil || !slices.Contains(ulimits, limit.Name), "Ulimits", "")
	}
	if len(fields) == 0 {
		return nil
	}
	return refuse("a container of a benchmark may not have %s", strings.Join(fields, ", "))
}

func oneOf[T ~string](value T, allowed ...T) bool { return slices.Contains(allowed, value) }

// unknown returns the fields of a struct that are set and not known.
func unknown(prefix string, of any, known []string) (names []string) {
	v := reflect.ValueOf(of)
	for i := range v.NumField() {
		field := v.Type().Field(i)
		switch {
		case field.Anonymous:
			names = append(names, unknown(prefix, v.Field(i).Interface(), known)...)
		case !slices.Contains(known, field.Name) && !empty(v.Field(i)):
			names = append(names, prefix+field.Name)
		}
	}
	return names
}

// empty reports whether a field says nothing: the docker command sends many as an empty
// list, an empty object or a pointer to zero.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	case reflect.Pointer, reflect.Interface:
		return v.IsNil() || empty(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if !empty(v.Field(i)) {
				return false
			}
		}
		return true
	}
	return v.IsZero()
}
