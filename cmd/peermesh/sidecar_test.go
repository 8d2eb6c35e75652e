package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// tools skips a test on a machine without the programs it runs.
func tools(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("needs %s: %v", name, err)
		}
	}
}

// readmeBlock is the commands of the README's block that begins with first.
func readmeBlock(t *testing.T, first string) []string {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(readme), "```sh\n"+first+"\n")
	block, _, closed := strings.Cut(rest, "```")
	if !ok || !closed {
		t.Fatalf("README.md has no block that begins with %s", first)
	}
	return slices.DeleteFunc(strings.Split(block, "\n"), func(line string) bool { return strings.TrimSpace(line) == "" })
}

// freeAddr is an address of this machine that nobody uses, for TCP and for UDP. Its port is none of those that systems give out
// by themselves, which a connection of another test could get before it is listened on.
func freeAddr(t interface{ Fatal(args ...any) }) string {
	for {
		addr := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))
		l, err := net.Listen("tcp", addr)
		if err == nil {
			var p net.PacketConn
			if p, err = net.ListenPacket("udp", addr); err == nil {
				err = p.Close()
			}
			err = errors.Join(err, l.Close())
		}
		switch {
		case err == nil:
			return addr
		case !errors.Is(err, syscall.EADDRINUSE):
			t.Fatal(err)
		}
	}
}

// home is an environment with a home folder of its own.
func home(dir string, more ...string) []string {
	return append(os.Environ(), append([]string{"HOME=" + dir, "XDG_CONFIG_HOME=" + dir, "PEERMESH_NO_MDNS=true", "PEERMESH_LISTEN=127.0.0.1:0"}, more...)...)
}

func TestReadmeTakesAMessageFromOneShellScriptToAnother(t *testing.T) {
	tools(t, "bash", "curl")
	commands := readmeBlock(t, "go install ./cmd/peermesh # 1")
	if len(commands) > 5 {
		t.Fatalf("%d commands after the first, at most 6 in all", len(commands))
	}
	dir, addr := t.TempDir(), freeAddr(t)
	text := strings.ReplaceAll(strings.Join(commands, "\n"), "localhost:7070", addr)
	sidecar, scripts, _ := strings.Cut(text, "\n")
	sender, worker, _ := strings.Cut(scripts, "\n")
	for name, script := range map[string]string{"sender.sh": sender, "worker.sh": worker} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("set -eu\n"+script+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithTimeout(t.Context(), 2*patience)
	defer stop()
	// The last line tells the process that the README's & has left running to end.
	cmd := exec.CommandContext(ctx, "bash", "-c", "set -u\n"+sidecar+"\nbash sender.sh && bash worker.sh; code=$?; kill %1; wait %1; exit $code")
	cmd.Dir, cmd.Env = dir, home(dir, "PEERMESH_GATEWAY_LISTEN="+addr)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "cat.png") || !strings.Contains(string(out), `{"acked":1,"final":true}`) {
		t.Errorf("%v:\n%s", err, out)
	}
}

func TestExamplesOfTheGuideAreServed(t *testing.T) {
	tools(t, "bash", "curl")
	guide, err := os.ReadFile("../../docs/SIDECAR.md")
	if err != nil {
		t.Fatal(err)
	}
	dir, addr := t.TempDir(), freeAddr(t)
	cmd := exec.Command("peermesh", "sidecar", "--dir", filepath.Join(dir, "state"), "-q")
	cmd.Env = home(dir, "PEERMESH_GATEWAY_LISTEN="+addr, "PEERMESH_DRAIN=100ms") // what the examples pull is not acked
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended, and Wait says how
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}()
	ready := exec.Command("curl", "-sf", "--retry", "20", "--retry-connrefused", "--retry-delay", "1", "http://"+addr+"/readyz")
	if out, err := ready.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	n := 0
	for line := range strings.Lines(string(guide)) {
		example, ok := strings.CutPrefix(strings.TrimSpace(line), "curl ")
		if !ok {
			continue
		}
		n++
		want := "200"
		if strings.Contains(example, "/v1/req/") {
			want = "503" // nobody answers
		}
		text := "exec curl --max-time 60 -s -i " + strings.ReplaceAll(example, "localhost:7070", addr)
		if answer := answered(t, dir, text); !strings.HasPrefix(answer, "HTTP/1.1 "+want+" ") {
			t.Errorf("%s: want %s:\n%s", text, want, answer)
		}
	}
	if n < 7 {
		t.Errorf("only %d examples", n)
	}
}

// answered runs a command and is what it prints: all of it, or of a stream, which has no end, up to its first event.
func answered(t *testing.T, dir, text string) string {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	cmd := exec.CommandContext(ctx, "bash", "-c", text)
	cmd.Dir = dir
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for s := bufio.NewScanner(out); s.Scan(); {
		all.WriteString(s.Text() + "\n")
		if strings.HasPrefix(s.Text(), "event: ") {
			stop()
		}
	}
	_ = cmd.Wait() // a stream that is cut off is an error
	return all.String()
}

func TestSystemdIsToldWhatTheSidecarDoes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no signals")
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "notify")
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	if err := systemd.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("peermesh", "sidecar", "-q")
	cmd.Env = home(dir, "NOTIFY_SOCKET="+socket, "WATCHDOG_USEC=20000", "PEERMESH_GATEWAY_LISTEN=127.0.0.1:0")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	await := func(want string) {
		t.Helper()
		for buffer := make([]byte, 1000); ; {
			n, err := systemd.Read(buffer)
			if err != nil {
				t.Fatalf("%s never came: %v", want, err)
			}
			if strings.HasPrefix(string(buffer[:n]), want) {
				return
			}
		}
	}
	tell := func(s os.Signal) {
		t.Helper()
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	await("READY=1")
	await("WATCHDOG=1")
	tell(syscall.SIGHUP)
	await("RELOADING=1\nMONOTONIC_USEC=")
	await("READY=1")
	tell(syscall.SIGTERM)
	await("STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// leaves are the keys of a section.
func leaves(v reflect.Value, path string) (keys []string) {
	if v.Kind() != reflect.Struct {
		return []string{path}
	}
	for i := range v.NumField() {
		keys = append(keys, leaves(v.Field(i), strings.TrimPrefix(path+"-"+v.Type().Field(i).Tag.Get("yaml"), "-"))...)
	}
	return keys
}

func TestEveryKeyIsAnEnvironmentVariable(t *testing.T) {
	keys := leaves(reflect.ValueOf(sections{}), "")
	if len(keys) < 20 {
		t.Fatalf("only %q", keys)
	}
	for _, key := range keys {
		for _, value := range []string{"7", "true", "[{name: a}]", "{a: b}", "text"} {
			var s sections
			if err := overlay(&s, map[string]string{environmentName(key): value}); err == nil && !reflect.DeepEqual(s, sections{}) {
				key = ""
				break
			}
		}
		if key != "" {
			t.Errorf("%s takes nothing from %s", key, environmentName(key))
		}
	}
}

func TestDeploymentsExampleIsSoundAndNamesEveryTopic(t *testing.T) {
	data, err := os.ReadFile("../../docs/deploy/sidecar.yaml")
	if err != nil {
		t.Fatal(err)
	}
	uncommented := strings.NewReplacer("  # listen: :7070\n", "", "  # certificate: /etc/peermesh/tls.crt\n", "", "  # key: /etc/peermesh/tls.key\n", "",
		"  # tokens: # ", "  tokens: # ", "  #   - name", "    - name", "  #     ", "      ", "\n# zeromq", "\nzeromq", "\n#   ", "\n  ").Replace(string(data))
	for _, text := range []string{string(data), uncommented} {
		s, err := decodeConfig([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := planOf(s.Sections); err != nil {
			t.Error(err)
		}
	}
	if s, err := decodeConfig([]byte(uncommented)); err != nil || len(s.Sections.Gateway.Tokens) != 1 || len(s.Sections.ZeroMQ.Endpoints) != 2 {
		t.Errorf("%v: the examples of a token and of endpoints are not sound: %s", err, uncommented)
	}
}

// instructions are the lines of a Dockerfile, by stage.
func instructions(t *testing.T) (stages [][]string) {
	t.Helper()
	data, err := os.ReadFile("../../docs/deploy/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "FROM "):
			stages = append(stages, []string{line})
		case len(stages) == 0:
			t.Fatalf("%q stands before FROM", line)
		default:
			stages[len(stages)-1] = append(stages[len(stages)-1], line)
		}
	}
	return stages
}

func TestDockerfileBuildsAStaticBinaryThatRunsWithoutRights(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the command")
	}
	stages := instructions(t)
	if len(stages) != 2 || stages[1][0] != "FROM scratch" || !strings.HasPrefix(stages[0][0], "FROM golang:1.26 AS build") {
		t.Fatalf("%q, want a build and an empty image", stages)
	}
	last := strings.Join(stages[1], "\n")
	for _, want := range []string{"USER 65532:65532", "COPY --from=build /out/peermesh /peermesh", `ENTRYPOINT ["/peermesh"]`, `CMD ["sidecar"]`} {
		if !strings.Contains(last, want) {
			t.Errorf("the image has no line %s:\n%s", want, last)
		}
	}
	build := slices.IndexFunc(stages[0], func(line string) bool { return strings.HasPrefix(line, "RUN CGO_ENABLED=0 go build ") })
	if build < 0 {
		t.Fatalf("no line builds: %q", stages[0])
	}
	words := strings.Fields(strings.TrimPrefix(stages[0][build], "RUN "))
	out := filepath.Join(t.TempDir(), "peermesh")
	for i, w := range words {
		words[i] = strings.ReplaceAll(w, "/out/peermesh", out)
	}
	cmd := exec.Command("env", words...)
	cmd.Dir = "../.."
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", words, err, text)
	}
	info, err := os.Stat(out)
	if err != nil {
		t.Fatal(err)
	}
	if most := int64(30 << 20); info.Size() > most {
		t.Errorf("%d bytes, at most %d", info.Size(), most)
	}
	if runtime.GOOS == "linux" {
		if most, got := 30<<10, idleMemory(t, out); got > most {
			t.Errorf("an idle sidecar of profile edge has %d KiB in memory, at most %d", got, most)
		}
		if text, err := exec.Command("go", "version", "-m", out).CombinedOutput(); err != nil || !strings.Contains(string(text), "CGO_ENABLED=0") {
			t.Errorf("%v: %s", err, text)
		}
	}
	version := exec.Command(out, "version")
	version.Env = home(t.TempDir())
	if text, err := version.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, text)
	}
}

// idleMemory is how many KiB a sidecar of profile edge has in memory (VmRSS) once it is ready.
func idleMemory(t *testing.T, binary string) int {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command(binary, "sidecar", "--json", "--dir", filepath.Join(dir, "state"))
	cmd.Env = home(dir, "PEERMESH_SPOOL_PROFILE=edge", "PEERMESH_GATEWAY_LISTEN=127.0.0.1:0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill() // it has shown what it was to show
		_ = cmd.Wait()
	}()
	for s := bufio.NewScanner(out); ; {
		if !s.Scan() {
			t.Fatalf("no sidecar: %v", s.Err())
		}
		if strings.Contains(s.Text(), `"event":"gateway"`) {
			break
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	var kib int
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatalf("%v:\n%s", err, status)
	}
	return kib
}

func TestServiceUnitAndKubernetesExampleNameWhatIsThere(t *testing.T) {
	unit, err := os.ReadFile("../../docs/deploy/peermesh.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Type=notify", "WatchdogSec=", "ExecReload=/bin/kill -HUP $MAINPID", "peermesh sidecar --config "} {
		if !strings.Contains(string(unit), want) {
			t.Errorf("the unit has no %s", want)
		}
	}
	data, err := os.ReadFile("../../docs/deploy/kubernetes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, key := range append(leaves(reflect.ValueOf(sections{}), ""), "name", "mesh", "listen", "peer", "dir") {
		known[environmentName(key)] = true
	}
	headless := false
	for document := range strings.SplitSeq(string(data), "\n---\n") {
		var object struct {
			Kind string
			Spec map[string]any
		}
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatal(err)
		}
		headless = headless || object.Kind == "Service" && fmt.Sprint(object.Spec["clusterIP"]) == "None"
	}
	if !headless {
		t.Error("no headless service")
	}
	for _, word := range strings.FieldsFunc(string(data), func(r rune) bool { return strings.ContainsRune(" {},:\n", r) }) {
		if strings.HasPrefix(word, environmentPrefix) && !known[word] {
			t.Errorf("%s is no environment variable of the sidecar", word)
		}
	}
}
