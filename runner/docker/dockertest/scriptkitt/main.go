// Command scriptkitt plays `kitt run` and its inference engine in tests with a Docker
// engine. As kitt it runs the docker commands of the file script in the model's
// directory, one a line, and prints each one's output and exit status. Words stand for
// themselves but for
//
//	$ID      the last line of the last successful command's output
//	$MODEL   the directory of the model
//	$RESULTS the directory of the results
//
// and a line that begins with <TEXT gives the command that text, and a newline, as input.
// Other lines:
//
//	get URL   prints what a server answers, after waiting for it
//	time URL  prints the median time of 200 requests in microseconds
//	write     writes a file to the directory of the results, and one to $HOME
//	wait FILE waits until the file exists
//	hang      stays until killed
//
// In the engine's container it is called with one of the commands serve, tee, cat, slow
// and id.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "scriptkitt:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("a command is needed")
	}
	switch args[0] {
	case "run":
		return script(flagOf(args, "-m"), flagOf(args, "-o"))
	case "serve":
		return serve(args[1:])
	case "tee":
		f, err := os.Create(args[1])
		if err != nil {
			return err
		}
		_, err = io.Copy(io.MultiWriter(f, os.Stdout), os.Stdin)
		return errors.Join(err, f.Close())
	case "cat":
		text, err := os.ReadFile(args[1])
		fmt.Printf("%s", text)
		return err
	case "slow": // prints a line a while after its start, twice
		for i := range 2 {
			time.Sleep(1500 * time.Millisecond)
			fmt.Println("slow", i)
		}
		return nil
	case "id":
		fmt.Println(os.Getuid(), os.Getgid(), os.Getenv("HOME"))
		return nil
	}
	return fmt.Errorf("%q is no command", args[0])
}

// stay waits until a signal ends the program.
func stay() {
	for {
		time.Sleep(time.Hour)
	}
}

func flagOf(args []string, name string) string {
	if i := slices.Index(args, name); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

// serve answers every request with a name until it is killed.
func serve(args []string) error {
	fmt.Println("serving")
	if len(args) < 2 {
		stay()
	}
	return http.ListenAndServe("0.0.0.0:"+args[0], http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, args[1])
	}))
}

// script runs the model's script.
func script(model, results string) error {
	f, err := os.Open(filepath.Join(model, "script"))
	if err != nil {
		return err
	}
	defer f.Close()
	id := ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := strings.NewReplacer("$ID", id, "$MODEL", model, "$RESULTS", results).Replace(lines.Text())
		input, rest, ok := strings.Cut(line, " ")
		if text, given := strings.CutPrefix(input, "<"); ok && given {
			input, line = text+"\n", rest
		} else {
			input = ""
		}
		fmt.Println("$", line)
		out, err := step(strings.Fields(line), input, results)
		fmt.Print(out)
		if err != nil {
			fmt.Println("failed:", err)
			continue
		}
		if said := strings.Split(strings.TrimSpace(out), "\n"); said[len(said)-1] != "" {
			id = said[len(said)-1]
		}
	}
	return os.WriteFile(filepath.Join(results, "metrics.json"), []byte("{}"), 0o644)
}

func step(words []string, input, results string) (string, error) {
	switch words[0] {
	case "hang":
		stay()
	case "wait":
		for {
			if _, err := os.Stat(words[1]); err == nil {
				return "", nil
			}
			time.Sleep(10 * time.Millisecond)
		}
	case "get":
		return get(words[1])
	case "time":
		return measure(words[1])
	case "write":
		if err := os.WriteFile(filepath.Join(results, "written"), []byte("x"), 0o644); err != nil {
			return "", err
		}
		return "", os.WriteFile(filepath.Join(os.Getenv("HOME"), ".scriptkitt"), []byte("x"), 0o600)
	}
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Stdin = strings.NewReader(input)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// get returns what a server answers.
func get(url string) (string, error) {
	deadline := time.Now().Add(20 * time.Second)
	for {
		answer, err := http.Get(url)
		if err == nil {
			defer answer.Body.Close()
			text, err := io.ReadAll(answer.Body)
			return string(text) + "\n", err
		}
		if time.Now().After(deadline) {
			return "", err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// measure returns the median time of a request on a connection that stays.
func measure(url string) (string, error) {
	if _, err := get(url); err != nil {
		return "", err
	}
	var took []time.Duration
	for range 200 {
		begin := time.Now()
		if _, err := get(url); err != nil {
			return "", err
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	return fmt.Sprintln(took[len(took)/2].Microseconds()), nil
}
