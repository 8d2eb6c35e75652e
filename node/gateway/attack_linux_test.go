package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"peermesh/node"
	"peermesh/node/meshtest"
	"peermesh/patterns"
	"peermesh/socket"
)

// The gateway under attack, over loopback and in real time, while the node behind it carries other messages. The sizes
// are small here; make attack runs the full ones and prints what it measures.

// besieged is a gateway whose node sends and receives meanwhile.
type besieged struct {
	t      *testing.T
	g      *Gateway
	addr   string
	client *http.Client
	secret string
	moved  atomic.Int64 // messages that passed between the nodes
}

func besiege(t *testing.T, limits Limits) *besieged {
	t.Helper()
	mesh := meshtest.New(t, meshtest.Config{Seed: 1})
	n, other := mesh.Node("gate"), mesh.Node("other")
	token, secret := tokenFor("good", "* *")
	g, err := New(n, Config{Tokens: []Token{token}, Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- g.Serve(l, nil) }()
	b := &besieged{t: t, g: g, addr: l.Addr().String(), client: &http.Client{Transport: &http.Transport{}, Timeout: time.Minute}, secret: secret}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	b.traffic(ctx, &wg, n, other)
	t.Cleanup(func() {
		stop()
		wg.Wait()
		b.client.CloseIdleConnections()
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return b
}

// traffic moves messages from the gateway's node to another.
func (b *besieged) traffic(ctx context.Context, wg *sync.WaitGroup, from, to *node.Node) {
	b.t.Helper()
	push, err := from.Push("other")
	if err != nil {
		b.t.Fatal(err)
	}
	pull, err := to.Pull("other")
	if err != nil {
		b.t.Fatal(err)
	}
	wg.Go(func() {
		_ = pull.Handle(ctx, 4, func(context.Context, *socket.Message) error { // it ends with ctx
			b.moved.Add(1)
			return nil
		})
	})
	wg.Go(func() {
		for body := make([]byte, 100); push.Send(ctx, body) == nil; {
		}
	})
}

// rate is how many messages a second the nodes move for d.
func (b *besieged) rate(d time.Duration) float64 {
	before, began := b.moved.Load(), time.Now()
	time.Sleep(d)
	return float64(b.moved.Load()-before) / time.Since(began).Seconds()
}

// compare measures what an attack does to the mesh traffic, in slices of d: each one under attack is held against the mean
// of the two quiet ones around it, so that what else the machine does, which comes and goes, counts little. begin begins the
// attack, and returns what ends it and waits for that. It reports the median of the rounds, the least and the most.
func (b *besieged) compare(what string, rounds int, d time.Duration, begin func() (end func())) {
	b.t.Helper()
	var ratios []float64
	before := b.rate(d)
	for range rounds {
		end := begin()
		during := b.rate(d)
		end()
		b.good()
		after := b.rate(d)
		ratios = append(ratios, 2*during/(before+after))
		b.t.Logf("%s: %.0f messages a second, %.0f under attack, %.0f", what, before, during, after)
		before = after
	}
	slices.Sort(ratios)
	fmt.Printf("mesh traffic, %s: %.2f of what it is without (median of %d; %.2f to %.2f)\n",
		what, ratios[rounds/2], rounds, ratios[0], ratios[rounds-1])
}

// ask posts as an honest client does, and must be served.
func (b *besieged) ask(path, body string) string {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), "POST", "http://"+b.addr+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+b.secret)
	res, err := b.client.Do(r)
	if err != nil {
		b.t.Errorf("an honest client was not served: %v", err)
		return ""
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		b.t.Errorf("an honest client got %s: %.200s (%v)", res.Status, text, err)
	}
	return string(text)
}

// good pushes a message as an honest client does, and returns how long that took.
func (b *besieged) good() time.Duration {
	b.t.Helper()
	began := time.Now()
	b.ask("/v1/push/jobs", "good")
	return time.Since(began)
}

// raw opens a connection and says text; codeOf reads the answer.
func (b *besieged) raw(text string) net.Conn {
	b.t.Helper()
	c, err := net.Dial("tcp", b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		b.t.Fatal(err)
	}
	_, _ = io.WriteString(c, text) // the gateway may have hung up by then
	return c
}

// codeOf is the status of the answer on a connection, 0 if it was closed without one.
func codeOf(c net.Conn) int {
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	return res.StatusCode
}

const postHead = "POST /v1/push/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"

// size is a number of the attack: small, or that of make attack.
func size(small, full int) int {
	if os.Getenv("PEERMESH_ATTACK") == "full" {
		return full
	}
	return small
}

// heap is the live memory of this process in bytes, stacks included.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

func TestIdleConnectionsKeepNobodyOut(t *testing.T) {
	const most = 200
	b := besiege(t, Limits{Conns: most})
	b.client.Transport = &http.Transport{DisableKeepAlives: true} // an honest client must get in each time
	n := size(600, 10000)
	raiseFiles(t, uint64(n+most+1000))
	before := heap()
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	var slowest time.Duration
	for i := range n {
		conns = append(conns, b.raw(""))
		if i%(n/20) == 0 {
			slowest = max(slowest, b.good())
		}
	}
	if grown := int64(heap()) - int64(before); grown > 64<<20 {
		t.Errorf("%d idle connections took %d MiB", n, grown>>20)
	} else {
		t.Logf("%d idle connections: %d KiB more memory, slowest honest request %v", n, grown>>10, slowest)
	}
	// The earliest were closed for the latest.
	if code := codeOf(conns[0]); code != 0 {
		t.Errorf("the first idle connection got %d", code)
	}
	b.good()
}

func TestHugeHeadersAreRefused(t *testing.T) {
	b := besiege(t, Limits{})
	for _, header := range []string{"X: " + strings.Repeat("a", 1<<20), strings.Repeat("X: a\r\n", 100000), strings.Repeat("a", 1<<20)} {
		c := b.raw(fmt.Sprintf(postHead, b.secret) + header + "\r\n\r\n")
		if code := codeOf(c); code != http.StatusRequestHeaderFieldsTooLarge && code != http.StatusBadRequest && code != 0 {
			t.Errorf("%.10q...: %d, want 431", header, code)
		}
		c.Close()
	}
	b.good()
}

func TestCutOffBodiesSendNothing(t *testing.T) {
	b := besiege(t, Limits{ReadTime: 3 * time.Second}) // an honest client has as long
	var conns []net.Conn
	for range size(20, 500) {
		conns = append(conns, b.raw(fmt.Sprintf(postHead, b.secret)+"Content-Length: 8388608\r\n\r\nabc"))
	}
	for _, c := range conns[:len(conns)/2] { // these hang up; the others wait
		c.Close()
	}
	b.good()
	for _, c := range conns[len(conns)/2:] {
		if code := codeOf(c); code != http.StatusRequestTimeout {
			t.Errorf("%d, want 408", code)
		}
		c.Close()
	}
	b.good()
	if l := b.g.Ledger(); l.Accepted != 2 {
		t.Errorf("%d messages were accepted, want the two honest ones", l.Accepted)
	}
	b.until("no bytes of bodies are taken", func() bool { return b.g.bodies.out.Load() == 0 })
}

func TestManyLargeBodiesStayWithinTheirBound(t *testing.T) {
	const bound = 4 << 20
	b := besiege(t, Limits{Body: 1 << 20, Bodies: bound, ReadTime: 2 * time.Second})
	before := heap()
	var conns []net.Conn
	for range size(40, 400) {
		c := b.raw(fmt.Sprintf(postHead, b.secret) + "Content-Length: 1048576\r\n\r\n" + strings.Repeat("a", 600<<10))
		conns = append(conns, c)
	}
	if taken := b.g.bodies.out.Load(); taken > bound {
		t.Errorf("%d bytes are taken, at most %d", taken, bound)
	}
	if grown := int64(heap()) - int64(before); grown > 48<<20 {
		t.Errorf("%d MiB more", grown>>20)
	}
	codes := map[int]int{}
	for _, c := range conns {
		codes[codeOf(c)]++
		c.Close()
	}
	t.Logf("answers: %v", codes)
	if codes[http.StatusServiceUnavailable] == 0 || codes[http.StatusOK] > 0 {
		t.Errorf("answers %v, want some 503 and no 200", codes)
	}
	b.good()
}

func TestWrongTokensGetNothing(t *testing.T) {
	b := besiege(t, Limits{})
	for i := range size(200, 5000) {
		c := b.raw(fmt.Sprintf(postHead, "wrong"+strconv.Itoa(i)) + "Content-Length: 1\r\nConnection: close\r\n\r\na")
		if code := codeOf(c); code != http.StatusUnauthorized {
			t.Fatalf("%d, want 401", code)
		}
		c.Close()
	}
	b.good()
	if l := b.g.Ledger(); l.Accepted != 1 {
		t.Errorf("%d messages were accepted, want 1", l.Accepted)
	}
}

func TestSlowReadersAreCutOffAndTheirMessageGoesElsewhere(t *testing.T) {
	b := besiege(t, Limits{WriteTime: 3 * time.Second}) // an honest client has as long
	large := strings.Repeat("a", 7<<20)
	if text := b.ask("/v1/push/big", large); !strings.Contains(text, `"seq":1`) {
		t.Fatal(text)
	}
	for cut := range uint64(size(2, 8)) { // a message that fails ten times is dead
		c := b.raw(fmt.Sprintf("POST /v1/pull/big?lease=600 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Length: 0\r\n\r\n", b.secret))
		if err := c.(*net.TCPConn).SetReadBuffer(4096); err != nil {
			t.Fatal(err)
		}
		defer c.Close() // it never reads
		b.until("it is cut off", func() bool { return b.nacked("big") == cut+1 })
	}
	if got := b.ask("/v1/pull/big", ""); got != large {
		t.Errorf("an honest client got %d bytes", len(got))
	}
}

// nacked is how many messages of a queue the gateway has given back.
func (b *besieged) nacked(queue string) uint64 {
	b.t.Helper()
	room, err := b.g.pullFrom(queue)
	if err != nil {
		b.t.Fatal(err)
	}
	defer room.exit()
	return room.sock.(*patterns.Pull).Stats().Nacked
}

// until waits for what must happen.
func (b *besieged) until(what string, happened func() bool) {
	b.t.Helper()
	for late := time.Now().Add(30 * time.Second); !happened(); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			b.t.Fatalf("it never happened that %s", what)
		}
	}
}

func TestSlowHeadersAreCutOff(t *testing.T) {
	b := besiege(t, Limits{})
	var conns []net.Conn
	for range size(10, 1000) {
		conns = append(conns, b.raw("POST /v1/push/jobs HTTP/1.1\r\nHost: loc"))
	}
	began := time.Now()
	for _, c := range conns {
		if code := codeOf(c); code != 0 && code != http.StatusRequestTimeout {
			t.Errorf("%d, want it closed", code)
		}
		c.Close()
	}
	t.Logf("closed after %v", time.Since(began).Round(time.Millisecond))
	b.good()
}

// TestMeshTrafficUnderAttack measures; make attack prints it. It asserts nothing but that honest clients are served.
func TestMeshTrafficUnderAttack(t *testing.T) {
	if os.Getenv("PEERMESH_ATTACK") == "" {
		t.Skip("make attack measures")
	}
	n := size(600, 10000)
	raiseFiles(t, uint64(n+2000))
	b := besiege(t, Limits{ReadTime: time.Second})
	b.good()
	b.compare("600 slow, wrong or cut-off clients a second", 9, 1500*time.Millisecond, func() (end func()) {
		attack, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for kind := range 3 {
			wg.Go(func() { b.annoy(attack, kind) })
		}
		return func() {
			stop()
			wg.Wait()
		}
	})
	b.compare(fmt.Sprintf("%d idle connections", n), 9, time.Second, func() (end func()) {
		var conns []net.Conn
		for range n {
			conns = append(conns, b.raw(""))
		}
		b.good() // it comes behind them: all are let in, or out again
		return func() {
			for _, c := range conns {
				c.Close()
			}
		}
	})
}

// annoy attacks in one way, 200 times a second: the attackers share the machine, and a loop without a pause would measure
// their processor time.
func (b *besieged) annoy(ctx context.Context, kind int) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		text := []string{"", fmt.Sprintf(postHead, "wrong") + "Content-Length: 1\r\n\r\na", fmt.Sprintf(postHead, b.secret) + "Content-Length: 100000\r\n\r\nabc"}[kind]
		c, err := net.Dial("tcp", b.addr)
		if err != nil {
			continue
		}
		_, _ = io.WriteString(c, text) // the gateway may have hung up
		conns = append(conns, c)
	}
}

// raiseFiles lets this process have so many open files, or skips the test.
func raiseFiles(t *testing.T, n uint64) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Skip(err)
	}
	if limit.Cur >= n {
		return
	}
	if limit.Max < n {
		t.Skipf("needs %d open files, may have %d", n, limit.Max)
	}
	limit.Cur = n
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Skip(err)
	}
}
