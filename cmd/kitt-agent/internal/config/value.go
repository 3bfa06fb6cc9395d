package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/kirizan/kitt-agent/agent"
	"github.com/kirizan/kitt-agent/agent/notify"
	"github.com/kirizan/kitt-agent/cmd/kitt-agent/internal/selfupdate"

	"github.com/kirizan/kitt-agent/heartbeat"
	"github.com/kirizan/kitt-agent/internal/rules"
	"github.com/kirizan/kitt-agent/runner/simulated"
)

type durationOf = time.Duration

const (
	second = time.Second
	minute = time.Minute
	hour   = time.Hour
	day    = 24 * time.Hour
)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// scalar returns the text of a value that is no list and no map.
func scalar(n *yaml.Node) (string, error) {
	switch {
	case n.Kind != yaml.ScalarNode:
		return "", errors.New("it is a list or a map, not a single value")
	case n.Tag == "!!null":
		return "", nil
	}
	return n.Value, nil
}

// parsed returns a setter that hands the value's text to parse. An empty text
// means that the key isn't set: its default stays.
func parsed(parse func(c *Config, value string) error) func(*Config, *yaml.Node) error {
	return func(c *Config, n *yaml.Node) error {
		value, err := scalar(n)
		if err != nil || value == "" {
			return err
		}
		return parse(c, value)
	}
}

func text(field func(*Config) *string, check func(string) error) func(*Config, *yaml.Node) error {
	return parsed(func(c *Config, value string) error {
		if strings.ContainsFunc(value, unicode.IsControl) {
			return errors.New("it holds control characters")
		}
		if err := check(value); err != nil {
			return err
		}
		*field(c) = value
		return nil
	})
}

func secret(field func(*Config) *agent.Secret) func(*Config, *yaml.Node) error {
	return parsed(func(c *Config, value string) error {
		if err := rules.Token(value); err != nil {
			return err
		}
		*field(c) = agent.Secret(value)
		return nil
	})
}

func integer(field func(*Config) *int, low, high int) func(*Config, *yaml.Node) error {
	return parsed(func(c *Config, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil {
			return errors.New("it is no whole number")
		}
		if n < low || n > high {
			return errors.New("it is out of range")
		}
		*field(c) = n
		return nil
	})
}

// percent takes 1% to 100%, and 0 or 0%.
func percent(field func(*Config) *int) func(*Config, *yaml.Node) error {
	return parsed(func(c *Config, value string) error {
		number, found := strings.CutSuffix(value, "%")
		n, err := strconv.Atoi(number)
		if err != nil || !found && n != 0 {
			return errors.New("it is not a percentage, such as 90%")
		}
		if n < 0 || n > 100 {
			return errors.New("it is out of range")
		}
		*field(c) = n
		return nil
	})
}

// boolean takes the words that YAML 1.1, and so Python, takes.
func boolean(set func(*Config, bool)) func(*Config, *yaml.Node) error {
	return parsed(func(c *Config, value string) error {
		switch strings.ToLower(value) {
		case "true", "yes", "on":
			set(c, true)
		case "false", "no", "off":
			set(c, false)
		default:
			return errors.New("it is neither true nor false")
		}
		return nil
	})
}

func word(field func(*Config) *string, allowed ...string) func(*Config, *yaml.Node) error {
	return parsed(func(c *Config, value string) error {
		if !slices.Contains(allowed, value) {
			return errors.New("it is none of these")
		}
		*field(c) = value
		return nil
	})
}

func duration(field func(*Config) *time.Duration, low, high time.Duration) func(*Config, *yaml.Node) error {
	return parsed(func(c *Config, value string) error {
		d, err := ParseDuration(value)
		if err != nil {
			return err
		}
		if d < low || d > high {
			return errors.New("it is out of range")
		}
		*field(c) = d
		return nil
	})
}

func durationOrZero(field func(*Config) *time.Duration, low, high time.Duration) func(*Config, *yaml.Node) error {
	return orZero(field, duration(field, low, high))
}

// orZero takes a bare 0 for no limit, and leaves anything else to set.
func orZero[T int64 | time.Duration](field func(*Config) *T, set func(*Config, *yaml.Node) error) func(*Config, *yaml.Node) error {
	return func(c *Config, n *yaml.Node) error {
		if n.Kind == yaml.ScalarNode && n.Value == "0" {
			*field(c) = 0
			return nil
		}
		return set(c, n)
	}
}

// ParseDuration reads a duration as Go writes them, and days, as in 30d.
func ParseDuration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		if err != nil || math.IsNaN(n) || n < 0 || n > 36500 {
			return 0, errors.New("it is not a number of days")
		}
		return time.Duration(n * float64(day)), nil
	}
	if _, err := strconv.Atoi(text); err == nil && text != "0" {
		return 0, errors.New("it has no unit; write s, m, h or d behind the number")
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, errors.New("it is no duration such as 30s, 5m, 2h or 30d")
	}
	return d, nil
}

var sizeUnits = []struct {
	suffix string
	bytes  float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
	{"B", 1}, {"", 1},
}

// ParseSize reads a number of bytes, with or without a unit, as in 2GiB.
func ParseSize(text string) (int64, error) {
	for _, unit := range sizeUnits {
		number, ok := strings.CutSuffix(text, unit.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || math.IsNaN(n) || n < 0 || n*unit.bytes > math.MaxInt64/2 {
			break
		}
		return int64(n * unit.bytes), nil
	}
	return 0, errors.New("it is no size such as 500MiB or 2GiB")
}

func simulatedSpeed(c *Config, n *yaml.Node) error {
	return parsed(func(c *Config, value string) error {
		speed, err := strconv.ParseFloat(value, 64)
		if err != nil || math.IsNaN(speed) {
			return errors.New("it is not a number")
		}
		if speed < 0 || speed > 1000 {
			return errors.New("it is out of range")
		}
		c.Simulated.Speed = speed
		return nil
	})(c, n)
}

func simulatedScenario(c *Config, n *yaml.Node) error {
	return parsed(func(c *Config, value string) (err error) {
		c.Simulated.Scenario, err = simulated.ParseScenario(value)
		return err
	})(c, n)
}

// size takes a number of bytes, of least or more.
func size(field func(*Config) *int64, least int64) func(*Config, *yaml.Node) error {
	return parsed(func(c *Config, value string) error {
		size, err := ParseSize(value)
		if err != nil {
			return err
		}
		if size < least {
			return errors.New("it is too little")
		}
		*field(c) = size
		return nil
	})
}

func sizeOrZero(field func(*Config) *int64, least int64) func(*Config, *yaml.Node) error {
	return orZero(field, size(field, least))
}

func heartbeatInterval(c *Config, n *yaml.Node) error {
	seconds := 0
	err := integer(func(*Config) *int { return &seconds }, int(heartbeat.MinInterval/second), int(heartbeat.MaxInterval/second))(c, n)
	if err == nil && seconds != 0 {
		c.HeartbeatInterval = time.Duration(seconds) * time.Second
	}
	return err
}

func logLevel(c *Config, n *yaml.Node) error {
	level := "info"
	if err := word(func(*Config) *string { return &level }, "debug", "info", "warn", "error")(c, n); err != nil {
		return err
	}
	return c.Log.Level.UnmarshalText([]byte(level))
}

func serverURL(c *Config, n *yaml.Node) error {
	return parsed(func(c *Config, value string) error {
		if err := checkURL(value); err != nil {
			return err
		}
		c.ServerURL = strings.TrimRight(value, "/")
		return nil
	})(c, n)
}

// list takes a list of texts, each of which check accepts.
func list(field func(*Config) *[]string, check func(string) error) func(*Config, *yaml.Node) error {
	return func(c *Config, n *yaml.Node) error {
		if n.Tag == "!!null" {
			return nil
		}
		if n.Kind != yaml.SequenceNode {
			return errors.New("it is no list")
		}
		values := []string{}
		for i, item := range n.Content {
			value, err := scalar(follow(item))
			if err != nil {
				return fmt.Errorf("entry %d: %w", i+1, err)
			}
			if err := check(value); err != nil {
				return fmt.Errorf("entry %d, %q: %w", i+1, shown(value), err)
			}
			values = append(values, value)
		}
		*field(c) = values
		return nil
	}
}

// gpuSets takes a list of lists of names of GPUs.
func gpuSets(c *Config, n *yaml.Node) error {
	if n.Tag == "!!null" {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		return errors.New("it is no list")
	}
	var sets [][]string
	for _, item := range n.Content {
		err := list(func(*Config) *[]string {
			sets = append(sets, nil)
			return &sets[len(sets)-1]
		}, agent.CheckGPUName)(c, follow(item))
		if err != nil {
			return err
		}
	}
	c.GPUSets = sets
	return agent.GPUSets{Sets: sets}.Validate()
}

func environment(c *Config, n *yaml.Node) error {
	if n.Tag == "!!null" {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return errors.New("it is no map of names and values")
	}
	env := make(map[string]Reference, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := n.Content[i].Value
		if !variableName.MatchString(name) {
			return fmt.Errorf("%q is no name of a variable", name)
		}
		ref, err := reference(name, follow(n.Content[i+1]))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		env[name] = ref
	}
	c.Env = env
	return nil
}

func checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return errors.New("it is no address such as https://server:8080")
	case u.User != nil:
		return errors.New("it holds a user name or a password; the key token is the place for a token")
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("it has a ? or a # in it")
	}
	return nil
}

func checkListen(host string) error {
	if host != "localhost" && net.ParseIP(host) == nil {
		return errors.New("it is no IP address; the port has a key of its own")
	}
	return nil
}

func checkNotifyEvent(name string) error {
	if !slices.Contains(notify.Events(), notify.Event(name)) {
		return errors.New("it is not one of these")
	}
	return nil
}

func checkHostPort(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return errors.New("it is not an address and a port, such as 127.0.0.1:9095")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return errors.New("its port is not from 1 to 65535")
	}
	if host == "" {
		return nil
	}
	return checkListen(host)
}

// containerUser is the form of a user in a container.
var containerUser = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,31}(:[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,31})?$`)

func checkUser(user string) error {
	if !containerUser.MatchString(user) {
		return errors.New("it is not of the form user or user:group")
	}
	return nil
}

// capabilities are those of Linux 6 (capabilities(7)), without CAP_.
var capabilities = strings.Fields(`AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN
	DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE
	MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN
	SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM`)

func checkCapability(name string) error {
	if !slices.Contains(capabilities, name) {
		return errors.New("it is not the name of a capability without CAP_, such as SYS_NICE")
	}
	return nil
}

func checkPublicKey(key string) error {
	_, err := selfupdate.ParsePublicKey(key)
	return err
}
