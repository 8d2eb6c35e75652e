package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestEveryVerbHasAnExampleAndAManPage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man1")
	var stdout, stderr strings.Builder
	if code := run(t.Context(), []string{"man", dir}, strings.NewReader(""), &stdout, &stderr, nil); code != exitOK || stdout.Len() > 0 {
		t.Fatalf("exit %d, stdout %q, stderr %q", code, stdout.String(), stderr.String())
	}
	all := family(rootCommand(newApp(nil, nil, nil, nil)))
	if len(all) < 40 {
		t.Errorf("only %d verbs", len(all))
	}
	for _, cmd := range all {
		if cmd.Short == "" || !strings.Contains(cmd.Example, cmd.CommandPath()) {
			t.Errorf("%s: the help %q has no example of it: %q", cmd.CommandPath(), cmd.Short, cmd.Example)
		}
		data, err := os.ReadFile(filepath.Join(dir, manName(cmd)+".1"))
		if err != nil {
			t.Error(err)
			continue
		}
		page := string(data)
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && !strings.Contains(page, roff("--"+f.Name)) {
				t.Errorf("%s: the page does not name --%s", cmd.CommandPath(), f.Name)
			}
		})
		checkRoff(t, cmd.CommandPath(), page)
	}
}

// checkRoff finds lines that would be requests by accident.
func checkRoff(t *testing.T, path, page string) {
	t.Helper()
	requests := []string{".TH", ".SH", ".PP", ".TP", ".B", ".nf", ".fi"}
	for line := range strings.Lines(page) {
		request, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if line[0] == '\'' || line[0] == '.' && !slices.Contains(requests, request) {
			t.Errorf("%s: no request is meant by %q", path, line)
		}
	}
	if strings.Count(page, "\n.nf\n") != strings.Count(page, "\n.fi\n") {
		t.Errorf("%s: not every part that is not filled ends", path)
	}
}

func TestRoffLinesMeanThemselves(t *testing.T) {
	for in, want := range map[string]string{
		"plain":        "plain",
		".config":      `\&.config`,
		"'x'":          `\&'x'`,
		`a\n`:          `a\en`,
		"--dir":        `\-\-dir`,
		"one\n.two":    "one .two",
		"echo 'a' > b": "echo 'a' > b",
	} {
		if got := roff(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestManSaysWhichFolderCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr strings.Builder
	code := run(t.Context(), []string{"man", file}, strings.NewReader(""), &stdout, &stderr, nil)
	if code != exitUsage || !strings.Contains(stderr.String(), "give a directory") {
		t.Errorf("exit %d, %q; want %d and what to give", code, stderr.String(), exitUsage)
	}
}
