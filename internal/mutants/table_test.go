package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rules are those that the table must break. Rules 7 to 10 are timing and bounds, which the sockets' own tests are about;
// their mutants are under "lease", "credit" and the causes 9 and 10.
var rules = []string{
	"attach: what ATTACH carries", "attach: the fence", "attach: the newest ATTACHED", "attach: done", "attach: held", "attach: not here",
	"attach: CONFIRM", "attach: the flag", "attach: the dispatch mark", "attach: forgotten",
	"rule 1", "rule 2", "rule 3", "rule 4", "rule 5", "rule 6",
	"cause 1", "cause 2", "cause 3", "cause 4", "cause 5", "cause 6", "cause 7", "cause 8", "cause 9", "cause 10", "cause 11", "cause 12",
	"lease", "credit", "attempts", "order", "ranges", "dead letters", "views", "once", "once-durable", "bad input", "policy", "trust", "tracing", "insight",
}

const root = "../.."

func TestEveryRuleHasAMutant(t *testing.T) {
	broken := map[string]bool{}
	for _, m := range table {
		for _, rule := range strings.Split(m.rule, ", ") {
			broken[rule] = true
		}
	}
	for _, rule := range rules {
		if !broken[rule] {
			t.Errorf("no mutant breaks %q", rule)
		}
	}
	for rule := range broken {
		if !slices.Contains(rules, rule) && !regexp.MustCompile(`^(invariant|rule) \d+$`).MatchString(rule) {
			t.Errorf("%q is no rule", rule)
		}
	}
}

func TestNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range table {
		if seen[m.name] {
			t.Errorf("two mutants are named %q", m.name)
		}
		seen[m.name] = true
	}
}

func TestWhatIsBrokenOccursOnce(t *testing.T) {
	for _, m := range table {
		b, err := os.ReadFile(filepath.Join(root, m.file))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(b), m.old); m.old == "" || n != 1 {
			t.Errorf("%s: %q occurs %d times in %s, want once", m.name, m.old, n, m.file)
		}
		if m.old == m.new {
			t.Errorf("%s: nothing is broken", m.name)
		}
	}
}

var testName = regexp.MustCompile(`(?m)^func (Test\w+)\(`)

func TestEachMutantsTestsExist(t *testing.T) {
	known := map[string][]string{}
	for _, m := range table {
		if known[m.pkg] == nil {
			known[m.pkg] = testsOf(t, m.pkg)
		}
		for _, pattern := range strings.Split(m.test, "|") {
			if !slices.ContainsFunc(known[m.pkg], regexp.MustCompile(pattern).MatchString) {
				t.Errorf("%s: %s has no test %q", m.name, m.pkg, pattern)
			}
		}
	}
}

// testsOf lists the tests of a package.
func testsOf(t *testing.T, pkg string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range testName.FindAllStringSubmatch(string(b), -1) {
			names = append(names, found[1])
		}
	}
	return names
}
