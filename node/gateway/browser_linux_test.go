package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"peermesh/node"
	"peermesh/node/meshtest"

	"github.com/coder/websocket"
)

// browser is a page in a headless Chromium, spoken to over the DevTools protocol.
type browser struct {
	t  *testing.T
	ws *websocket.Conn
	id int
}

// openBrowser starts the program named by PEERMESH_CHROMIUM; make page does that.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	program := os.Getenv("PEERMESH_CHROMIUM")
	if program == "" {
		t.Skip("make page runs it in Chromium")
	}
	dir := t.TempDir()
	cmd := exec.Command(program, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars", "--remote-debugging-port=0", "--user-data-dir="+dir, "about:blank")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var said bytes.Buffer // a pipe that all its processes hold, so Wait returns when none of them writes into dir any more
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // they end by nothing else
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s", said.String())
		}
	})
	b := &browser{t: t}
	var port []byte
	b.await("Chromium listens", func() bool {
		var err error
		port, err = os.ReadFile(filepath.Join(dir, "DevToolsActivePort"))
		return err == nil && strings.Contains(string(port), "\n")
	})
	first, _, _ := strings.Cut(string(port), "\n")
	res, err := http.Get("http://127.0.0.1:" + first + "/json/list")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var pages []struct{ Type, WebSocketDebuggerURL string }
	if err := json.NewDecoder(res.Body).Decode(&pages); err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		if p.Type == "page" {
			b.ws, _, err = websocket.Dial(t.Context(), p.WebSocketDebuggerURL, nil)
		}
	}
	if err != nil || b.ws == nil {
		t.Fatal(err, pages)
	}
	b.ws.SetReadLimit(64 << 20)
	t.Cleanup(func() { b.ws.CloseNow() })
	return b
}

func (b *browser) await(what string, happened func() bool) {
	b.t.Helper()
	for late := time.Now().Add(30 * time.Second); !happened(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(late) {
			b.t.Fatalf("it never happened that %s", what)
		}
	}
}

// call runs one method of the DevTools protocol and reads its result into v, which may be nil.
func (b *browser) call(method string, params map[string]any, v any) {
	b.t.Helper()
	b.id++
	ctx, stop := context.WithTimeout(b.t.Context(), 30*time.Second)
	defer stop()
	data, err := json.Marshal(map[string]any{"id": b.id, "method": method, "params": params})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.ws.Write(ctx, websocket.MessageText, data); err != nil {
		b.t.Fatal(err)
	}
	for {
		_, data, err := b.ws.Read(ctx)
		if err != nil {
			b.t.Fatal(method, err)
		}
		var answer struct {
			ID     int
			Result json.RawMessage
			Error  json.RawMessage
		}
		if err := json.Unmarshal(data, &answer); err != nil {
			b.t.Fatal(err)
		}
		if answer.ID != b.id {
			continue // an event
		}
		if answer.Error != nil {
			b.t.Fatalf("%s: %s", method, answer.Error)
		}
		if v != nil {
			if err := json.Unmarshal(answer.Result, v); err != nil {
				b.t.Fatal(err)
			}
		}
		return
	}
}

// eval is what an expression is on the page, as a text.
func (b *browser) eval(expression string) string {
	b.t.Helper()
	var out struct {
		Result           struct{ Value any }
		ExceptionDetails json.RawMessage
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &out)
	if out.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, out.ExceptionDetails)
	}
	return fmt.Sprint(out.Result.Value)
}

// press presses a key.
func (b *browser) press(key string, code int, text string) {
	b.t.Helper()
	for _, kind := range []string{"keyDown", "keyUp"} {
		b.call("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text}, nil)
		text = ""
	}
}

// tabTo presses the tab key until the element with that label has the focus.
func (b *browser) tabTo(label string) {
	b.t.Helper()
	for range 30 {
		b.press("Tab", 9, "")
		if b.eval(`document.activeElement.getAttribute("aria-label") || ""`) == label {
			return
		}
	}
	b.t.Fatalf("the tab key never comes to %s", label)
}

// shoot writes a picture of the page into the folder of PEERMESH_SHOTS, if that is set.
func (b *browser) shoot(name string) {
	b.t.Helper()
	var shot struct{ Data []byte }
	b.call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &shot)
	if dir := os.Getenv("PEERMESH_SHOTS"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name), shot.Data, 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *browser) width(n int) {
	b.t.Helper()
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": n, "height": 900, "deviceScaleFactor": 1, "mobile": false}, nil)
}

func TestPageInABrowserShowsTheLedgerAndReplaysByKeyboard(t *testing.T) {
	b := openBrowser(t)
	mesh := meshtest.New(t, meshtest.Config{Seed: 1})
	n, other := mesh.Node("warehouse", func(c *node.Config) { c.Dir = mesh.Dir("warehouse") }), mesh.Node("shop")
	for _, service := range []string{"price", "stock"} {
		if _, err := other.Rep(service); err != nil {
			t.Fatal(err)
		}
	}
	mesh.AwaitLinks(n, other)
	g, err := New(n, Config{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- g.Serve(l, nil) }()
	defer func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	base := "http://" + l.Addr().String()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	post := func(path, body string) http.Header {
		t.Helper()
		res, err := client.Post(base+path, "", strings.NewReader(body))
		if err != nil || res.StatusCode >= 300 {
			t.Fatal(path, err, res)
		}
		res.Body.Close()
		return res.Header
	}
	for i := range 7 {
		post("/v1/push/orders", fmt.Sprintf("order %d", i))
	}
	for range 4 {
		post(post("/v1/pull/orders", "").Get(headerAck), "")
	}
	post("/v1/push/poison", "<b>not markup</b>")
	for range 10 {
		post("/v1/pull/poison/"+post("/v1/pull/poison?wait=60", "").Get(headerLease)+"/nack?delay=10ms", "<i>it is broken</i>")
	}
	b.await("the message is dead", func() bool { return g.Ledger().Dead == 1 })
	b.await("what no client asks for is given back", func() bool { return g.Ledger().Leased == 0 })

	b.width(1000)
	b.call("Page.navigate", map[string]any{"url": base + "/"}, nil)
	b.await("the page shows the ledger", func() bool { return b.eval(`document.getElementById("ledger-done")?.textContent || ""`) == "4" })
	ledger := n.Sockets()
	sum := g.Ledger()
	for name, want := range map[string]uint64{"accepted": sum.Accepted, "carried": sum.Carried, "queued": sum.Queued, "leased": sum.Leased, "done": sum.Done, "dead": sum.Dead, "expired": sum.Expired} {
		if got := b.eval(`document.getElementById("ledger-` + name + `").textContent`); got != fmt.Sprint(want) {
			t.Errorf("%s: the page says %s, the ledger %d (%+v)", name, got, want, ledger)
		}
	}
	if got := b.eval(`document.querySelector("#peers tbody td").textContent`); got != "shop" {
		t.Errorf("the page shows the node %q, want shop", got)
	}
	b.await("the page shows what the other node offers", func() bool {
		return strings.Contains(b.eval(`document.querySelector("#peers tbody").textContent`), "price")
	})
	b.await("it shows rates", func() bool {
		return b.eval(`document.querySelector("#sockets tbody tr td:last-child").textContent`) == "0.0"
	})
	b.shoot("page.png")

	b.tabTo("Show dead letters of poison")
	b.press("Enter", 13, "\r")
	b.await("the letter is shown", func() bool {
		return b.eval(`document.querySelector("#letters pre")?.textContent || ""`) == "<b>not markup</b>"
	})
	b.width(400)
	if got := b.eval(`document.documentElement.clientWidth === 400 && document.documentElement.scrollWidth <= 400`); got != "true" {
		t.Errorf("at 400 px the page is %s px wide", b.eval(`document.documentElement.scrollWidth`))
	}
	b.shoot("page-400.png")
	b.tabTo("Replay letter 1")
	b.press("Enter", 13, "\r")
	b.await("it is replayed", func() bool {
		return strings.Contains(b.eval(`document.getElementById("letters").textContent`), "none are left")
	})
	if l := g.Ledger(); l.Accepted != 9 {
		t.Errorf("%+v, want 9 accepted: 7 orders, 1 poison and its replay", l)
	}
}
