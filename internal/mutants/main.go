// Command mutants proves that the tests of the delivery code bite: it breaks one rule at a time in a copy of a file, runs
// the test that is named for it, and fails if that test passes five times, or if it fails with nothing broken. Nothing in the
// tree is changed: the broken copy is laid over it by the go command's -overlay.
//
//	go run ./internal/mutants             all of them
//	go run ./internal/mutants -run fsync  those whose name contains "fsync"
//	go run ./internal/mutants -list       the table: what is broken, and which test sees it
package main

import (
	"context"
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
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// mutant is one rule broken in one place.
type mutant struct {
	name string // what is broken
	rule string // of DELIVERY, or of "the 12 usual causes"
	file string
	old  string // occurs once in the file
	new  string
	pkg  string
	test string // the pattern of the test that must fail
}

func main() {
	only := flag.String("run", "", "only mutants whose name contains `TEXT`")
	list := flag.Bool("list", false, "list them and do nothing")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *list {
		err = show(os.Stdout)
	} else {
		err = run(ctx, *only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func show(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, m := range table {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", m.name, m.rule, m.pkg, m.test)
	}
	return t.Flush()
}

// run tries all mutants, some at a time, and tells of each.
func run(ctx context.Context, only string) (err error) {
	var chosen []mutant
	for _, m := range table {
		if strings.Contains(m.name, only) {
			chosen = append(chosen, m)
		}
	}
	if len(chosen) == 0 {
		return fmt.Errorf("no mutant has %q in its name", only)
	}
	if err := sound(ctx, chosen); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var mu sync.Mutex
	var wg sync.WaitGroup
	alive := 0
	slots := make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))
	for i, m := range chosen {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			began := time.Now()
			err := try(ctx, m, filepath.Join(dir, fmt.Sprint(i)))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				alive++
				fmt.Printf("ALIVE   %s: %v\n", m.name, err)
				return
			}
			fmt.Printf("killed  %s  (%s, %s, %.1f s)\n", m.name, m.pkg, m.test, time.Since(began).Seconds())
		})
	}
	wg.Wait()
	fmt.Printf("%d mutants, %d killed\n", len(chosen), len(chosen)-alive)
	if alive > 0 {
		return fmt.Errorf("%d of %d mutants are not killed by the test that is named for them", alive, len(chosen))
	}
	return ctx.Err()
}

// sound runs the tests that are named for the mutants on what is not broken: one that fails anyway kills nothing.
func sound(ctx context.Context, mutants []mutant) error {
	tests := map[string][]string{}
	for _, m := range mutants {
		tests[m.pkg] = append(tests[m.pkg], m.test)
	}
	for pkg, patterns := range tests {
		if out, err := test(ctx, pkg, strings.Join(patterns, "|"), "-timeout", "10m"); err != nil {
			return fmt.Errorf("nothing is broken, and yet: %w: %s", err, out)
		}
	}
	return nil
}

// test runs the tests of a package that match a pattern.
func test(ctx context.Context, pkg, pattern string, flags ...string) ([]byte, error) {
	args := append([]string{"test", "-count=1", "-vet=off", "-timeout", "2m", "-run", pattern}, flags...)
	args = append(args, "./"+pkg)
	draws, err := usesRapid(pkg)
	if err != nil {
		return nil, err
	}
	if draws { // it would leave what it found in testdata
		args = append(args, "-args", "-rapid.nofailfile", "-rapid.shrinktime=1s")
	}
	return exec.CommandContext(ctx, "go", args...).CombinedOutput()
}

// usesRapid reports whether tests of the package draw their inputs, and so know rapid's flags.
func usesRapid(pkg string) (bool, error) {
	files, err := filepath.Glob(filepath.Join(filepath.FromSlash(pkg), "*_test.go"))
	for _, file := range files {
		var b []byte
		if b, err = os.ReadFile(file); err != nil || strings.Contains(string(b), "\"pgregory.net/rapid\"") {
			return err == nil, err
		}
	}
	return false, err
}

var (
	errSurvives = errors.New("its test passes all the same")
	errBroken   = errors.New("it does not compile, which proves nothing")
)

// tries is how often a mutant's test may pass before the mutant counts as alive: some draw their inputs, or race.
const tries = 5

// try returns nil if the mutant is killed.
func try(ctx context.Context, m mutant, dir string) error {
	source, err := os.ReadFile(filepath.FromSlash(m.file))
	if err != nil {
		return err
	}
	if n := strings.Count(string(source), m.old); n != 1 {
		return fmt.Errorf("%q occurs %d times in %s, want once", m.old, n, m.file)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	overlay, err := lay(dir, m, strings.Replace(string(source), m.old, m.new, 1))
	if err != nil {
		return err
	}
	for range tries {
		if err := attack(ctx, m, overlay); !errors.Is(err, errSurvives) {
			return err
		}
	}
	return errSurvives
}

// attack is one run of the mutant's test.
func attack(ctx context.Context, m mutant, overlay string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	out, err := test(ctx, m.pkg, m.test, "-overlay", overlay)
	var exit *exec.ExitError
	switch text := string(out); {
	case err == nil && strings.Contains(text, "no tests to run"):
		return fmt.Errorf("no test matches %q", m.test)
	case err == nil:
		return errSurvives
	case !errors.As(err, &exit):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case strings.Contains(text, "[build failed]") || strings.Contains(text, "[setup failed]"):
		return fmt.Errorf("%w: %s", errBroken, text)
	}
	return nil
}

// lay writes the broken file and the description of the overlay.
func lay(dir string, m mutant, source string) (string, error) {
	broken := filepath.Join(dir, filepath.Base(m.file))
	if err := os.WriteFile(broken, []byte(source), 0o600); err != nil {
		return "", err
	}
	real, err := filepath.Abs(filepath.FromSlash(m.file))
	if err != nil {
		return "", err
	}
	b, err := json.Marshal(map[string]map[string]string{"Replace": {real: broken}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, b, 0o600)
}
