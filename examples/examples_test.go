package examples_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// bound is on every run of a program: far more than it needs.
const bound = 60 * time.Second

// programs is where TestMain has built the examples.
var programs string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "peermesh-examples")
	if err != nil {
		panic(err)
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			panic(err)
		}
	}()
	programs = dir + string(filepath.Separator)
	build := exec.Command("go", "build", "-o", programs, "./pushpull", "./pubsub", "./reqrep", "./pipeline", "./httpservice")
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		panic(err)
	}
	return m.Run()
}

// command is an example with a home of its own, so that the user's mesh is neither
// needed nor met.
func command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, programs+name, args...)
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "AppData="+home)
	cmd.Stderr = os.Stderr
	return cmd
}

// lines runs an example to its end and returns what it printed, sorted: what goes on
// at the same time is printed in any order.
func lines(t *testing.T, name string) []string {
	t.Helper()
	out, err := command(t, name).Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	got := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(got)
	return got
}

func check(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestPushPullDoesEveryJobOnce(t *testing.T) {
	t.Parallel()
	check(t, lines(t, "pushpull"),
		"10 jobs accepted = 10 done + 0 dead",
		"picture 0 printed at attempt 1",
		"picture 1 printed at attempt 1",
		"picture 2 printed at attempt 1",
		"picture 3 printed at attempt 1",
		"picture 4 printed at attempt 1",
		"picture 5 printed at attempt 1",
		"picture 6 printed at attempt 1",
		"picture 7 printed at attempt 2",
		"picture 8 printed at attempt 1",
		"picture 9 printed at attempt 1")
}

func TestPubSubReachesWhoSubscribed(t *testing.T) {
	t.Parallel()
	check(t, lines(t, "pubsub"),
		"*.temp   got basel.temp: 21 °C",
		"*.temp   got bern.temp: 19 °C",
		"5 copies = 4 done + 1 that nobody wanted",
		"basel.>  got basel.airport.wind: 5 m/s",
		"basel.>  got basel.temp: 21 °C")
}

func TestReqRepTellsEveryOutcome(t *testing.T) {
	t.Parallel()
	check(t, lines(t, "reqrep"),
		`"": the server says: nothing to shout`,
		`"hello": HELLO`,
		`"slow": nobody knows whether it was shouted`)
}

func TestPipelineCountsOnceWhateverIsKilled(t *testing.T) {
	t.Parallel()
	check(t, lines(t, "pipeline"),
		"100 numbers, 100 squares, sum 338350",
		"the squarer was killed 3 times")
}

func TestHTTPServiceWorksAndEndsInGoodOrder(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be asked to end there")
	}
	cmd := command(t, "httpservice", "-http", "127.0.0.1:0")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(stdout)
	greeting, err := out.ReadString('\n')
	if err != nil {
		t.Fatalf("it said %q, then: %v", greeting, err)
	}
	base := strings.Fields(greeting)[2] // serving on http://...

	for _, try := range []struct {
		method, path, body string
		status             int
		answer             string
	}{
		{http.MethodPost, "/jobs", "cat.png", http.StatusAccepted, "job 1"},
		{http.MethodPost, "/jobs", "dog.png", http.StatusAccepted, "job 2"},
		{http.MethodPost, "/jobs", strings.Repeat("x", 1<<20+1), http.StatusRequestEntityTooLarge, "http: request body too large"},
		{http.MethodGet, "/upper?text=" + url.QueryEscape("what is said"), "", http.StatusOK, "WHAT IS SAID"},
		{http.MethodGet, "/upper", "", http.StatusUnprocessableEntity, "nothing to shout"},
		{http.MethodGet, "/jobs", "", http.StatusMethodNotAllowed, "Method Not Allowed"},
	} {
		status, answer := ask(t, try.method, base+try.path, try.body)
		if status != try.status || answer != try.answer {
			t.Errorf("%s %s: %d %q, want %d %q", try.method, try.path, status, answer, try.status, try.answer)
		}
	}

	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	got := strings.Split(strings.TrimSpace(string(rest)), "\n")
	slices.Sort(got)
	check(t, got, "2 jobs accepted, 2 done", "did cat.png", "did dog.png")
}

func ask(t *testing.T, method, to, body string) (status int, answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, to, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(b))
}
