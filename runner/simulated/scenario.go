package simulated

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Scenario is what goes wrong, or goes otherwise than usual, in a simulated
// run. The zero value is a run that goes well; fields combine freely, except
// where noted. [ParseScenario] tells the words for them. None of them changes
// the figures of a run that comes to its end, PassedFalse excepted.
type Scenario struct {
	// FailAt ends the run there with exit status Exit, or 1, and without
	// metrics.json.
	FailAt Place

	// Hang stops the run there: it prints nothing more and ends only when it
	// is cancelled.
	Hang Place

	// OOM has the kernel kill the run there for want of memory (137, SIGKILL).
	OOM Place

	// Crash calls Config.Crash there.
	Crash Place

	// Exit, from 1 to 255, is the exit status of a run that fails; without
	// FailAt it fails after its last line. 130, 134, 137, 139 and 143 are told
	// as deaths by signal.
	Exit int

	// Slow multiplies the delays between lines, from 0.001 to 1000; zero is 1.
	Slow float64

	// Flood prints so many more lines of 100 bytes at once in mid-run, at most
	// 100 million.
	Flood int

	// LongLine prints one more line of so many bytes in mid-run, at most 1 GiB.
	LongLine int

	Progress      bool // a progress bar with carriage returns, as tqdm draws it, in each benchmark
	InvalidUTF8   bool // one more line with bytes that are not UTF-8
	NoMetrics     bool // success without metrics.json
	BrokenMetrics bool // success with half a metrics.json; not with NoMetrics
	PassedFalse   bool // success with a metrics.json that says that every benchmark failed

	// Machine is what is wrong with the machine. The run itself knows nothing of it: the
	// program that makes the agent has it watch a machine with these faults.
	Machine MachineFaults
}

// MachineFaults are what is wrong with the machine of a simulated run. They are those of
// integrity.Faults.
type MachineFaults struct {
	Throttled      bool // the hardware slows a GPU down
	ForeignProcess bool // another process uses a GPU
	ClockDrift     bool // the clock is wrong
	ECCError       bool // a GPU has an uncorrected memory error
	HungGPU        bool // no GPU answers
}

// A Place is a place in a simulated run: a number of lines after which it
// comes ("0", "12"), those that a scenario adds not counted, or the name of a step, just after that step's first line:
// "start", "hardware", "engine", "model", the name of a benchmark such as
// "latency", "report". "middle" is half-way. Past the last line, and at a
// benchmark that the suite doesn't have, it comes after the last line. The
// empty Place is nowhere.
type Place string

// steps are the names that a Place may have.
var steps = []string{
	"start", "hardware", "engine", "model",
	"mmlu", "gsm8k", "truthfulqa", "hellaswag", "throughput", "latency", "memory_usage", "warmup_analysis",
	"report", middle,
}

const (
	middle   = "middle"
	maxLines = 100_000_000
	maxLong  = 1 << 30
)

func (p Place) validate() error {
	if p == "" || slices.Contains(steps, string(p)) {
		return nil
	}
	if _, err := number(string(p), 0, maxLines); err != nil {
		return fmt.Errorf("%.40q is no place: want a number of lines up to %d or one of %s", string(p), maxLines, strings.Join(steps, ", "))
	}
	return nil
}

// A word is one word of a scenario's text.
type word struct {
	name     string
	standard string // the value of a word that stands alone; none must be given where it is "-", one where it is ""
	set      func(s *Scenario, value string) error
	get      func(s Scenario) string // the value; "-" for none, "" where the word is absent
}

var scenarioWords = []word{
	placeWord("fail-at", "", func(s *Scenario) *Place { return &s.FailAt }),
	placeWord("hang", middle, func(s *Scenario) *Place { return &s.Hang }),
	placeWord("oom", "model", func(s *Scenario) *Place { return &s.OOM }),
	placeWord("crash", middle, func(s *Scenario) *Place { return &s.Crash }),
	numberWord("exit", "", 1, 255, func(s *Scenario) *int { return &s.Exit }),
	{
		name: "slow", standard: "10",
		set: func(s *Scenario, value string) (err error) {
			s.Slow, err = strconv.ParseFloat(value, 64)
			if err == nil && s.Slow == 0 {
				err = errors.New("zero")
			}
			return err
		},
		get: func(s Scenario) string {
			if s.Slow == 0 {
				return ""
			}
			return strconv.FormatFloat(s.Slow, 'g', -1, 64)
		},
	},
	numberWord("flood", "10000", 1, maxLines, func(s *Scenario) *int { return &s.Flood }),
	numberWord("long-line", "200000", 1, maxLong, func(s *Scenario) *int { return &s.LongLine }),
	flagWord("progress", func(s *Scenario) *bool { return &s.Progress }),
	flagWord("invalid-utf8", func(s *Scenario) *bool { return &s.InvalidUTF8 }),
	flagWord("no-metrics", func(s *Scenario) *bool { return &s.NoMetrics }),
	flagWord("broken-metrics", func(s *Scenario) *bool { return &s.BrokenMetrics }),
	flagWord("passed-false", func(s *Scenario) *bool { return &s.PassedFalse }),
	flagWord("throttled", func(s *Scenario) *bool { return &s.Machine.Throttled }),
	flagWord("foreign-process", func(s *Scenario) *bool { return &s.Machine.ForeignProcess }),
	flagWord("clock-drift", func(s *Scenario) *bool { return &s.Machine.ClockDrift }),
	flagWord("ecc-error", func(s *Scenario) *bool { return &s.Machine.ECCError }),
	flagWord("hung-gpu", func(s *Scenario) *bool { return &s.Machine.HungGPU }),
}

func placeWord(name, standard string, field func(*Scenario) *Place) word {
	return word{
		name: name, standard: standard,
		set: func(s *Scenario, value string) error {
			*field(s) = Place(value)
			return nil
		},
		get: func(s Scenario) string { return string(*field(&s)) },
	}
}

func numberWord(name, standard string, low, high int, field func(*Scenario) *int) word {
	return word{
		name: name, standard: standard,
		set: func(s *Scenario, value string) (err error) {
			*field(s), err = number(value, low, high)
			return err
		},
		get: func(s Scenario) string {
			if *field(&s) == 0 {
				return ""
			}
			return strconv.Itoa(*field(&s))
		},
	}
}

func flagWord(name string, field func(*Scenario) *bool) word {
	return word{
		name: name, standard: "-",
		set: func(s *Scenario, _ string) error {
			*field(s) = true
			return nil
		},
		get: func(s Scenario) string {
			if *field(&s) {
				return "-"
			}
			return ""
		},
	}
}

// number reads a plain decimal from low to high.
func number(text string, low, high int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high || text[0] == '+' {
		return 0, fmt.Errorf("want a number from %d to %d", low, high)
	}
	return n, nil
}

// ParseScenario reads a scenario from words with commas or blanks between
// them, such as "fail-at=latency,exit=2,progress". The words are:
//
//	fail-at=PLACE    hang[=PLACE]     oom[=PLACE]       crash[=PLACE]
//	exit=STATUS      slow[=FACTOR]    flood[=LINES]     long-line[=BYTES]
//	progress         invalid-utf8     no-metrics        broken-metrics
//	passed-false     throttled        foreign-process   clock-drift
//	ecc-error        hung-gpu
//
// They stand for the fields of [Scenario]. Alone, hang and crash mean the
// middle of the run, oom the loading of the model, slow a factor of 10, flood
// 10,000 lines and long-line 200,000 bytes. The empty text is a run that goes
// well.
func ParseScenario(text string) (Scenario, error) {
	var s Scenario
	seen := make(map[string]bool)
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' }) {
		name, value, valued := strings.Cut(part, "=")
		i := slices.IndexFunc(scenarioWords, func(w word) bool { return w.name == name })
		if i < 0 {
			return Scenario{}, fmt.Errorf("scenario: unknown word %.40q: want some of %s", name, vocabulary())
		}
		w := scenarioWords[i]
		switch {
		case seen[name]:
			return Scenario{}, fmt.Errorf("scenario: %s is there twice", name)
		case !valued && w.standard == "":
			return Scenario{}, fmt.Errorf("scenario: %s needs a value, as in %s=3", name, name)
		case valued && (w.standard == "-" || value == ""):
			return Scenario{}, fmt.Errorf("scenario: %.40q: %s stands alone or has a value that is not empty", part, name)
		case !valued:
			value = w.standard
		}
		seen[name] = true
		if err := w.set(&s, value); err != nil {
			return Scenario{}, fmt.Errorf("scenario: %s is %.40q: %w", name, value, err)
		}
	}
	if err := s.validate(); err != nil {
		return Scenario{}, fmt.Errorf("scenario: %w", err)
	}
	return s, nil
}

func vocabulary() string {
	var names []string
	for _, w := range scenarioWords {
		names = append(names, w.name)
	}
	return strings.Join(names, ", ")
}

// String returns the text that [ParseScenario] reads s from.
func (s Scenario) String() string {
	var parts []string
	for _, w := range scenarioWords {
		switch value := w.get(s); value {
		case "":
		case "-":
			parts = append(parts, w.name)
		default:
			parts = append(parts, w.name+"="+value)
		}
	}
	return strings.Join(parts, ",")
}

// MarshalText returns what String does.
func (s Scenario) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is [ParseScenario] for decoders of configuration files.
func (s *Scenario) UnmarshalText(text []byte) (err error) {
	*s, err = ParseScenario(string(text))
	return err
}

func (s Scenario) validate() error {
	var errs []error
	place := func(name string, p Place) {
		if err := p.validate(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	amount := func(name string, n, high int) {
		if n < 0 || n > high {
			errs = append(errs, fmt.Errorf("%s is %d: want up to %d", name, n, high))
		}
	}
	place("fail-at", s.FailAt)
	place("hang", s.Hang)
	place("oom", s.OOM)
	place("crash", s.Crash)
	amount("exit", s.Exit, 255)
	amount("flood", s.Flood, maxLines)
	amount("long-line", s.LongLine, maxLong)
	if s.Slow != 0 && !between(s.Slow, 0.001, 1000) {
		errs = append(errs, fmt.Errorf("slow is %v: want 0.001 to 1000", s.Slow))
	}
	if s.NoMetrics && s.BrokenMetrics {
		errs = append(errs, errors.New("no-metrics and broken-metrics exclude each other"))
	}
	return errors.Join(errs...)
}
