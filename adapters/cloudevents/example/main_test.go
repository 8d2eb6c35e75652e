package main

import "testing"

func TestTheExampleRuns(t *testing.T) {
	home := t.TempDir()
	for _, name := range []string{"HOME", "XDG_CONFIG_HOME", "AppData"} {
		t.Setenv(name, home)
	}
	if err := run(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
}
