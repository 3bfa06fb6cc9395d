package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kirizan/kitt-agent/hwdetect/integrity"
)

// Integrity says how the machine is watched during benchmarks.
type Integrity struct {
	Enabled   bool
	Interval  time.Duration // between samples
	OnInvalid string        // report or fail
	WaitIdle  time.Duration // 0 for none
	WaitCool  float64       // °C; 0 for any
	CoolLimit time.Duration
	Limits    map[string]integrity.Limit
}

const limitPrefix = "integrity.limits."

// integrityKeys are the settings of package integrity, one for each of its rules among
// them.
func integrityKeys() []Key {
	all := []Key{
		{Name: "integrity.enabled", Env: "KITT_INTEGRITY_ENABLED", Allowed: "true or false", Default: "true",
			Meaning: "whether each result says if the machine was fit to be measured",
			set:     boolean(func(c *Config, v bool) { c.Integrity.Enabled = v })},
		{Name: "integrity.on_invalid", Env: "KITT_INTEGRITY_ON_INVALID", Allowed: "report or fail", Default: "report",
			Meaning: "what becomes of a benchmark during which the machine was not fit; with fail it fails, and its figures are kept",
			set:     word(func(c *Config) *string { return &c.Integrity.OnInvalid }, "report", "fail")},
		{Name: "integrity.interval", Env: "KITT_INTEGRITY_INTERVAL", Allowed: "100ms to 1m", Default: "1s",
			Meaning: "time between two samples of clocks, power and temperatures",
			set:     duration(func(c *Config) *durationOf { return &c.Integrity.Interval }, 100*time.Millisecond, minute)},
		{Name: "integrity.wait_idle", Env: "KITT_INTEGRITY_WAIT_IDLE", Allowed: "0 for no wait, or 1s to 24h", Default: "2m",
			Meaning: "longest time that a benchmark waits while processes of others use more than 1% of a GPU",
			set:     durationOrZero(func(c *Config) *durationOf { return &c.Integrity.WaitIdle }, second, day)},
		{Name: "integrity.wait_cool", Env: "KITT_INTEGRITY_WAIT_COOL", Allowed: "0 for any, or 20 to 120", Default: "0",
			Meaning: "temperature in °C that the GPUs are to have at most before a benchmark begins",
			set:     waitCool},
		{Name: "integrity.wait_cool_limit", Env: "KITT_INTEGRITY_WAIT_COOL_LIMIT", Allowed: "1s to 24h", Default: "10m",
			Meaning: "longest wait for cool GPUs",
			set:     duration(func(c *Config) *durationOf { return &c.Integrity.CoolLimit }, second, day)},
	}
	for _, r := range integrity.DefaultRules() {
		all = append(all, Key{
			Name: limitPrefix + r.Code, Allowed: "never, or such as warning 1, invalid 5", Default: limitText(r.Limit),
			Meaning: fmt.Sprintf("limits in %s: %s", unitText(r.Unit), r.Why),
			set:     limit(r.Code),
		})
	}
	return all
}

// waitCool sets the temperature that GPUs are to have at most.
var waitCool = parsed(func(c *Config, text string) error {
	celsius, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil:
		return errors.New("it is not a number")
	case celsius != 0 && !(celsius >= 20 && celsius <= 120):
		return errors.New("it is out of range")
	}
	c.Integrity.WaitCool = celsius
	return nil
})

func unitText(unit string) string {
	switch unit {
	case "count":
		return "numbers"
	case "s":
		return "seconds"
	}
	return unit
}

func limitText(l integrity.Limit) string {
	var parts []string
	for _, p := range []struct {
		name  string
		value *float64
	}{{"warning", l.Warning}, {"invalid", l.Invalid}} {
		if p.value != nil {
			parts = append(parts, p.name+" "+strconv.FormatFloat(*p.value, 'g', -1, 64))
		}
	}
	if len(parts) == 0 {
		return "never"
	}
	return strings.Join(parts, ", ")
}

// limit sets when a figure is a warning and when it is invalid.
func limit(code string) func(*Config, *yaml.Node) error {
	return parsed(func(c *Config, text string) error {
		l, err := parseLimit(text)
		if err != nil {
			return err
		}
		if c.Integrity.Limits == nil {
			c.Integrity.Limits = map[string]integrity.Limit{}
		}
		c.Integrity.Limits[code] = l
		return nil
	})
}

// parseLimit parses what limitText writes.
func parseLimit(text string) (l integrity.Limit, err error) {
	if strings.TrimSpace(text) == "never" {
		return l, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		name, number, _ := strings.Cut(strings.TrimSpace(part), " ")
		field := map[string]**float64{"warning": &l.Warning, "invalid": &l.Invalid}[name]
		if field == nil {
			return l, fmt.Errorf("%q is neither warning nor invalid", name)
		}
		if *field != nil {
			return l, fmt.Errorf("%s is there twice", name)
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || math.IsNaN(value) || math.IsInf(value, 0) {
			return l, fmt.Errorf("no number follows %s", name)
		}
		*field = &value
	}
	if l.Warning != nil && l.Invalid != nil && *l.Warning > *l.Invalid {
		return l, errors.New("the limit of a warning is above that of invalid")
	}
	return l, nil
}
