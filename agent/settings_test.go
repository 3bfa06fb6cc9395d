package agent

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// untouched is what the server sends while nobody has touched a setting
// (fixture 024).
func untouched() map[string]string {
	return map[string]string{
		"auto_cleanup": "true", "heartbeat_interval_s": "30", "kitt_image": "",
		"model_share_mount": "", "model_share_source": "", "model_storage_dir": "~/.kitt/models",
	}
}

func with(m map[string]string, name, value string) map[string]string {
	m[name] = value
	return m
}

func TestServersDefaultsDoNotOverrideTheMachine(t *testing.T) {
	t.Parallel()
	no := false
	s, err := newSettings(Settings{ModelDir: "/data", AutoCleanup: &no, Interval: 45 * time.Second}, nil)
	require.NoError(t, err)
	require.Empty(t, s.offer(untouched()))
	require.Equal(t, "/data", s.storage().Dir)
	require.False(t, s.storage().AutoCleanup)
	require.Equal(t, 45*time.Second, s.interval())

	require.Empty(t, s.offer(with(untouched(), "model_storage_dir", "/fast")))
	require.Equal(t, "/fast", s.storage().Dir, "what differs from the default is a choice")

	require.Empty(t, s.offer(untouched()))
	require.Equal(t, "~/.kitt/models", s.storage().Dir, "a default that was set while the agent looked is a choice too")
	require.False(t, s.storage().AutoCleanup, "that one never changed")
}

func TestServersSettingsCountWhereTheMachineNamesNone(t *testing.T) {
	t.Parallel()
	s, err := newSettings(Settings{}, nil)
	require.NoError(t, err)
	require.Equal(t, 30*time.Second, s.interval())
	sent := untouched()
	sent["heartbeat_interval_s"] = " 60 "
	sent["auto_cleanup"] = "False"
	sent["kitt_image"] = "registry.example:5000/kitt:1.7.0"
	sent["model_share_mount"] = "/mnt/models"
	sent["model_share_source"] = "nas:/volume1/models"
	require.Empty(t, s.offer(sent))
	require.Equal(t, time.Minute, s.interval())
	require.Equal(t, "registry.example:5000/kitt:1.7.0", s.image())
	got := s.storage()
	require.Equal(t, "~/.kitt/models", got.Dir)
	require.Equal(t, "nas:/volume1/models", got.ShareSource)
	require.Equal(t, "/mnt/models", got.ShareMount)
	require.False(t, got.AutoCleanup)

	require.Empty(t, s.offer(untouched()))
	require.Empty(t, s.image(), "an empty text means that it isn't set there")
}

// TestWhatTheServerSetOutlivesARestart makes an agent's settings several times, each
// from what the one before saved.
func TestWhatTheServerSetOutlivesARestart(t *testing.T) {
	t.Parallel()
	own := Settings{ModelDir: "/data"}
	restart := func(old *settings, own Settings) *settings {
		s, err := newSettings(own, nil)
		require.NoError(t, err)
		if old != nil {
			s.restore(old.saved())
		}
		return s
	}
	dir := func(s *settings) [2]string {
		return [2]string{s.texts()[settingModelDir], s.sources()[settingModelDir]}
	}

	s := restart(nil, own)
	require.Equal(t, [2]string{"/data", SourceMachine}, dir(s))
	require.Empty(t, s.offer(untouched()))
	require.Equal(t, [2]string{"/data", SourceMachine}, dir(restart(s, own)), "a default that nobody chose")

	require.Empty(t, s.offer(with(untouched(), settingModelDir, "/fast")))
	require.Equal(t, [2]string{"/fast", SourceServer}, dir(s))
	s = restart(s, own)
	require.Equal(t, [2]string{"/fast", SourceRemembered}, dir(s), "before the first heartbeat")

	require.Empty(t, s.offer(untouched()), "chosen while no agent looked")
	require.Equal(t, [2]string{defaultModelDir, SourceServer}, dir(s))
	s = restart(s, own)
	require.Equal(t, [2]string{defaultModelDir, SourceRemembered}, dir(s))
	require.Empty(t, s.offer(untouched()))
	require.Equal(t, [2]string{defaultModelDir, SourceServer}, dir(s), "it stays chosen")

	s = restart(s, Settings{ModelDir: "/other"})
	require.Equal(t, [2]string{"/other", SourceMachine}, dir(s), "the machine's own value has changed since")
	require.Empty(t, s.offer(untouched()))
	require.Equal(t, "/other", dir(s)[0])

	s = restart(s, Settings{})
	require.Equal(t, SourceDefault, s.sources()[settingImage])
	s = restart(nil, Settings{})
	s.restore(map[string]savedSetting{settingModelDir: {Sent: "../etc", Chosen: true}})
	require.Equal(t, "", s.texts()[settingModelDir], "what is damaged is not used")
}

func TestNonsenseIsSaidOnceAndIgnored(t *testing.T) {
	t.Parallel()
	for name, values := range map[string][]string{
		"heartbeat_interval_s": {"30.9", "1_0", "9", "301", "None", "-30", "99999999999999999999"},
		"auto_cleanup":         {"None", "yes", "1", "['a']"},
		"model_storage_dir":    {"None", "models", "/a/../../etc", "/", "/a\nb", "['a']"},
		"model_share_mount":    {"None", "-o", "x/y"},
		"model_share_source":   {"None", "nas", "-o:/x", "a b:/c", ":/x"},
		"kitt_image":           {"None", "--privileged", "a b", "UPPER/Case", "x\ny", "['a']"},
	} {
		for _, value := range values {
			s, err := newSettings(Settings{}, nil)
			require.NoError(t, err)
			before := s.texts()
			said := s.offer(map[string]string{name: value})
			require.Len(t, said, 1, "%s %q", name, value)
			require.ErrorContains(t, said[name], name)
			require.NotContains(t, said[name].Error(), "\n")
			require.Equal(t, before, s.texts(), "%s %q", name, value)
			require.Empty(t, s.offer(map[string]string{name: value}), "said once")
		}
	}
}

func TestOnlyAllowedImages(t *testing.T) {
	t.Parallel()
	s, err := newSettings(Settings{Image: "local/kitt:mine"}, []string{"registry.example/kitt*"})
	require.NoError(t, err)
	require.Len(t, s.offer(map[string]string{"kitt_image": "evil/image:latest"}), 1)
	require.Equal(t, "local/kitt:mine", s.image())
	require.Empty(t, s.offer(map[string]string{"kitt_image": "registry.example/kitt:1.8"}))
	require.Equal(t, "registry.example/kitt:1.8", s.image())
}

func TestTheMachinesOwnSettingsAreChecked(t *testing.T) {
	t.Parallel()
	_, err := newSettings(Settings{ModelDir: "models", Interval: time.Second, Image: "-x"}, nil)
	require.ErrorContains(t, err, "Settings.ModelDir")
	require.ErrorContains(t, err, "Settings.Interval")
	require.ErrorContains(t, err, "Settings.Image")
}
