// Package policy limits what the KITT server can make an agent do to its machine.
//
// A [Policy] is data: the settings that the server may change, and the directories,
// shares and images that it may choose. The machine's own configuration is not
// limited by it. The agent asks [Policy.CheckSetting] about each setting that the
// server sends, and [Policy.CheckStorageDir] about the directory itself. The storage
// asks again at the moment of use, with the directory held open:
// [Policy.OpenStorageDir], [Policy.CheckShareMount] and [Policy.CheckModel] fit the
// fields of storage.Config.
//
// What is refused is a [*fault.Error] of [Class]. Its fix is the line of agent.yaml
// that would allow it.
package policy

import (
	"errors"
	"fmt"
	"os/user"
	"path"
	"slices"
	"strings"

	"github.com/kirizan/kitt-agent/fault"
	"github.com/kirizan/kitt-agent/internal/rules"
	"github.com/kirizan/kitt-agent/storage"
)

// Class is the class of a refusal.
const Class = "policy"

// The server's names for the settings that it can change.
const (
	ModelStorageDir   = "model_storage_dir"
	ModelShareSource  = "model_share_source"
	ModelShareMount   = "model_share_mount"
	AutoCleanup       = "auto_cleanup"
	KITTImage         = "kitt_image"
	HeartbeatInterval = "heartbeat_interval_s"
)

// Settings returns the names of all settings that the server can change.
func Settings() []string {
	return []string{HeartbeatInterval, AutoCleanup, KITTImage, ModelStorageDir, ModelShareSource, ModelShareMount}
}

// A Policy says what the server may choose. The zero value limits nothing except
// what costs no program anything: models are never files of /proc, /sys or /dev.
// [Default] is the policy of kitt-agent.
type Policy struct {
	// ServerMaySet are the settings that the server may change. Nil means all of
	// [Settings], an empty list none.
	ServerMaySet []string

	// StorageDirs are the directories that the server may choose to keep models
	// in, and those below them. One that ends in a slash allows only what is below
	// it. A directory that isn't listed itself must be new, empty or one that a
	// storage has used before, and must belong to the agent's user. Nil allows any.
	StorageDirs []string

	// Shares are the shares that the server may name, as host:/directory. A * stands
	// for any text of the host, or of the directory. A lone * allows any share, and
	// so does nil. An empty list allows none.
	Shares []string

	// MountDirs are the directories below which the server may have the share. Nil
	// allows any.
	MountDirs []string

	// ModelDirs are the directories in which a model may be used where it is, in
	// addition to the storage directory and the share. Nil allows any, an empty list
	// none.
	ModelDirs []string

	// Images are the container images that the server may choose. A * stands for any
	// text. A pattern without a tag or digest allows all of a repository. Nil allows
	// any.
	Images []string

	// ProfileKeys are the keys that an engine profile of the server may have in addition
	// to plain settings such as port and n_ctx. image, env, extra_args, volumes and
	// python_path can make kitt run anything. Nil allows any, an empty list none.
	ProfileKeys []string

	// StartEngines are the native engines that the server may have started and stopped,
	// and InstallEngines those that it may have installed. Nil allows any, an empty list
	// none.
	StartEngines, InstallEngines []string

	// Machine is what the machine's own configuration names. It is always allowed.
	Machine Machine
}

// Machine is what a machine's own configuration names. Empty fields name nothing.
type Machine struct {
	StorageDir string // where models are kept
	ShareMount string // where the share is mounted
	Image      string // every tag of its repository is allowed

	// Dir is the directory of the agent's own files. Nothing in it is a model, a
	// share or a storage directory, except what is in its directory models.
	Dir string

	// Home replaces a leading ~ in paths. Defaults to [storage.HomeDir].
	Home string
}

// Default returns the policy of kitt-agent on a machine whose owner limits nothing:
// all settings, within directories that are usual for data.
func Default(m Machine) Policy {
	return Policy{
		ServerMaySet: Settings(),
		StorageDirs:  []string{"/home/", "/data/", "/srv/", "/mnt/", "/media/", "/var/lib/"},
		Shares:       []string{"*"},
		MountDirs:    []string{"/mnt", "/media", "/srv"},
		ModelDirs:    []string{},
		Images:       []string{"*kitt"},
		ProfileKeys:  []string{},

		StartEngines: []string{"vllm", "llama_cpp", "ollama"}, InstallEngines: []string{},
		Machine: m,
	}
}

// Validate returns what is wrong with p.
func (p Policy) Validate() error {
	var faults []error
	check := func(field string, values []string, rule func(string) error) {
		for _, value := range values {
			if err := rule(value); err != nil {
				faults = append(faults, fmt.Errorf("%s %q: %w", field, value, err))
			}
		}
	}
	check("ServerMaySet", p.ServerMaySet, SettingRule)
	check("StorageDirs", p.StorageDirs, rules.Path)
	check("Shares", p.Shares, ShareRule)
	check("MountDirs", p.MountDirs, rules.Path)
	check("ModelDirs", p.ModelDirs, rules.Path)
	check("Images", p.Images, ImageRule)
	check("ProfileKeys", p.ProfileKeys, ProfileKeyRule)
	check("StartEngines", p.StartEngines, EngineRule)
	check("InstallEngines", p.InstallEngines, InstallRule)
	return errors.Join(faults...)
}

// SettingRule is the rule for an entry of Policy.ServerMaySet.
func SettingRule(name string) error {
	if !slices.Contains(Settings(), name) {
		return fmt.Errorf("it is not one of %s", strings.Join(Settings(), ", "))
	}
	return nil
}

// CheckSetting returns why the server may not give a setting that value, which has
// passed the rules of the protocol. It doesn't look at the directory that it names.
func (p Policy) CheckSetting(name, value string) error {
	if p.ServerMaySet != nil && !slices.Contains(p.ServerMaySet, name) {
		return refuse("server_may_set", append(slices.Clone(p.ServerMaySet), name), "the server may not set it")
	}
	switch name {
	case ModelStorageDir:
		return p.checkStorageName(value)
	case ModelShareMount:
		return p.checkMountName(value)
	case ModelShareSource:
		return p.checkShare(value)
	case KITTImage:
		return p.CheckImage(value)
	}
	return nil
}

// refuse returns a refusal, and the line of agent.yaml that allows it: the list key
// of policy with values in it.
func refuse(key string, values []string, format string, args ...any) error {
	quoted := make([]string, len(values))
	for i, value := range values {
		quoted[i] = value
		if !plain(value) {
			quoted[i] = fmt.Sprintf("%q", value)
		}
	}
	fix := fmt.Sprintf("to allow it, add to agent.yaml: policy: {%s: [%s]}", key, strings.Join(quoted, ", "))
	return fault.New(Class, fix, format, args...)
}

// plain reports whether YAML reads value as it is in a list.
func plain(value string) bool {
	return value != "" && strings.Trim(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-") == ""
}

// expand returns a path as absolute and clean, with the home directory for a
// leading ~.
func (p Policy) expand(name string) string {
	if rest, ok := strings.CutPrefix(name, "~"); ok && (rest == "" || rest[0] == '/') {
		name = p.home() + rest
	}
	return path.Clean(name)
}

// home returns what ~ means.
func (p Policy) home() string {
	if p.Machine.Home != "" {
		return p.Machine.Home
	}
	home, err := storage.HomeDir()
	if err != nil {
		return "/nonexistent"
	}
	return home
}

// homes returns the directories that programs take for the home of the agent's user.
func (p Policy) homes() []string {
	homes := []string{p.home()}
	if me, err := user.Current(); err == nil && path.IsAbs(me.HomeDir) {
		homes = append(homes, path.Clean(me.HomeDir))
	}
	return homes
}
