// Command fakekitt plays `kitt run` in tests: it prints lines, writes
// metrics.json and ends as the name of the model tells it.
//
// A model named `fake:` and a list of these words, with commas between them,
// steers it; any other model prints ten lines and succeeds. With _ for the commas
// and . for = the list is a tag that an agent takes for an identifier, as in
// fake:lines.100_delay.5ms:
//
//	lines=N      prints N lines (10)
//	width=N      pads each line to N bytes, newline included
//	delay=D      waits D, such as 1ms, before each line
//	stderr       prints every second line on stderr
//	cr           prints a progress bar with carriage returns at the end
//	long=N       prints one line of N bytes at the end
//	bad-utf8     prints a line that isn't UTF-8 at the end
//	env=NAME     prints the variable NAME at the end
//	fork         leaves a child behind, in the same process group
//	fork-session leaves a child behind that left the process group
//	ignore-term  ignores SIGTERM
//	eat=N        takes N MiB of memory, after the output
//	hang         stays until killed, after the output
//	signal=N     sends itself the signal N, after the output
//	exit=N       exits with the status N
//	no-metrics   writes no metrics.json
//	clock        prints at last how many seconds it took, by its own clock
//	own-file     prints into the file output in the directory of the results
//	mark         adds a byte to the file runs in the directory of the results
//
// metrics.json is written if the status is 0.
package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// metrics is what `kitt run` wrote for a quick suite.
//
//go:embed metrics.json
var metrics []byte

// childWord makes the program a child that waits to be killed.
const childWord = "fake-child"

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "fakekitt:", err)
	}
	os.Exit(code)
}

func run(args []string) (int, error) {
	begun := time.Now()
	if len(args) == 1 && args[0] == childWord {
		stay()
	}
	if len(args) == 0 || args[0] != "run" {
		return 2, errors.New("the only command is run")
	}
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	model := flags.String("m", "", "model")
	engine := flags.String("e", "", "engine")
	suite := flags.String("s", "", "suite")
	dir := flags.String("o", "", "directory of the results")
	flags.String("mode", "", "docker or native")
	config := flags.String("config", "", "file with settings of the engine, which is printed")
	flags.Bool("auto-pull", false, "pull the engine's image")
	if err := flags.Parse(args[1:]); err != nil {
		return 2, err
	}
	s, err := parse(*model)
	if err != nil {
		return 2, err
	}
	if *config != "" {
		text, err := os.ReadFile(*config)
		if err != nil {
			return 2, err
		}
		fmt.Printf("config %s", text)
	}
	if s.ownFile {
		// As a shell would do it before the program starts.
		if os.Stdout, err = os.Create(filepath.Join(*dir, "output")); err != nil {
			return 1, err
		}
		os.Stderr = os.Stdout
	}
	if s.mark {
		if err := mark(filepath.Join(*dir, "runs")); err != nil {
			return 1, err
		}
	}
	if err := s.play(); err != nil {
		return 1, err
	}
	if s.clock {
		fmt.Printf("took %f s\n", time.Since(begun).Seconds())
	}
	if s.exit != 0 || s.noMetrics {
		return s.exit, nil
	}
	if err := writeMetrics(begun, *dir, *model, *engine, *suite); err != nil {
		return 1, err
	}
	return 0, nil
}

type script struct {
	lines, width, long, eat, signal, exit int
	delay                                 time.Duration
	env                                   string
	stderr, cr, badUTF8, hang             bool
	fork, forkSession, ignoreTerm         bool
	noMetrics, clock, ownFile, mark       bool
}

func parse(model string) (script, error) {
	s := script{lines: 10}
	words, ok := strings.CutPrefix(model, "fake:")
	if !ok || words == "" {
		return s, nil
	}
	comma, equals := ",", "="
	if !strings.ContainsAny(words, ",=") {
		comma, equals = "_", "."
	}
	for _, word := range strings.Split(words, comma) {
		key, value, _ := strings.Cut(word, equals)
		var err error
		switch key {
		case "lines":
			s.lines, err = strconv.Atoi(value)
		case "width":
			s.width, err = strconv.Atoi(value)
		case "long":
			s.long, err = strconv.Atoi(value)
		case "eat":
			s.eat, err = strconv.Atoi(value)
		case "signal":
			s.signal, err = strconv.Atoi(value)
		case "exit":
			s.exit, err = strconv.Atoi(value)
		case "delay":
			s.delay, err = time.ParseDuration(value)
		case "env":
			s.env = value
		case "stderr":
			s.stderr = true
		case "cr":
			s.cr = true
		case "bad-utf8":
			s.badUTF8 = true
		case "hang":
			s.hang = true
		case "fork":
			s.fork = true
		case "fork-session":
			s.forkSession = true
		case "ignore-term":
			s.ignoreTerm = true
		case "no-metrics":
			s.noMetrics = true
		case "clock":
			s.clock = true
		case "mark":
			s.mark = true
		case "own-file":
			s.ownFile = true
		default:
			err = errors.New("unknown word")
		}
		if err != nil {
			return s, fmt.Errorf("model %q: %q: %w", model, word, err)
		}
	}
	return s, nil
}

func (s script) play() error {
	if s.ignoreTerm {
		signal.Ignore(syscall.SIGTERM)
	}
	if s.fork || s.forkSession {
		if err := s.leaveChild(); err != nil {
			return err
		}
	}
	var line []byte
	for i := range s.lines {
		if s.delay > 0 {
			time.Sleep(s.delay)
		}
		line = fmt.Appendf(line[:0], "line %d", i)
		if pad := s.width - 1 - len(line); pad > 0 {
			line = append(line, ' ')
			line = append(line, bytes.Repeat([]byte{'.'}, pad-1)...)
		}
		line = append(line, '\n')
		to := os.Stdout
		if s.stderr && i%2 == 1 {
			to = os.Stderr
		}
		if _, err := to.Write(line); err != nil {
			return err
		}
	}
	if err := s.extras(os.Stdout); err != nil {
		return err
	}
	held := make([]byte, s.eat<<20)
	for i := 0; i < len(held); i += 4096 {
		held[i] = 1 // memory counts once it is written to
	}
	if s.hang {
		stay()
	}
	runtime.KeepAlive(held)
	if s.signal != 0 {
		if err := syscall.Kill(os.Getpid(), syscall.Signal(s.signal)); err != nil {
			return err
		}
		stay()
	}
	return nil
}

func (s script) extras(w io.Writer) error {
	var b bytes.Buffer
	if s.cr {
		for i := 0; i <= 100; i += 10 {
			fmt.Fprintf(&b, "\r%3d%%", i)
		}
		b.WriteByte('\n')
	}
	if s.long > 0 {
		b.Write(bytes.Repeat([]byte{'x'}, s.long-1))
		b.WriteByte('\n')
	}
	if s.badUTF8 {
		b.WriteString("bad \xff\xfe text\n")
	}
	if s.env != "" {
		fmt.Fprintf(&b, "%s=%s\n", s.env, os.Getenv(s.env))
	}
	_, err := w.Write(b.Bytes())
	return err
}

// mark adds a byte to a file.
func mark(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString("x")
	return errors.Join(err, f.Close())
}

// leaveChild starts a child and says its number.
func (s script) leaveChild() error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.Command(exe, childWord)
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: s.forkSession}
	if err := child.Start(); err != nil {
		return err
	}
	_, err = fmt.Printf("child %d\n", child.Process.Pid)
	return err
}

// stay waits until a signal ends the program.
func stay() {
	for {
		time.Sleep(time.Hour)
	}
}

// writeMetrics writes metrics.json by way of a rename, so that nobody sees half
// of it.
func writeMetrics(begun time.Time, dir, model, engine, suite string) error {
	var m map[string]any
	decoder := json.NewDecoder(bytes.NewReader(metrics))
	decoder.UseNumber()
	if err := decoder.Decode(&m); err != nil {
		return err
	}
	m["model"], m["engine"], m["suite_name"] = model, engine, suite
	m["total_time_seconds"] = time.Since(begun).Seconds() // as the program itself saw it
	m["timestamp"] = time.Now().UTC().Format("2006-01-02T15:04:05.000000")
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "metrics.json")
	if err := os.WriteFile(path+".new", append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
