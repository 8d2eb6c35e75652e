package gateway

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/socket"
)

func tokenFor(name string, rights ...string) (Token, string) {
	secret, text := NewSecret()
	t := Token{Name: name}
	var err error
	if t.Hash, err = ParseHash(text); err != nil {
		panic(err)
	}
	for _, s := range rights {
		r, err := ParseRight(s)
		if err != nil {
			panic(err)
		}
		t.Rights = append(t.Rights, r)
	}
	return t, secret
}

func TestTokenMayDoWhatItsRightsSayAndNothingElse(t *testing.T) {
	one, oneSecret := tokenFor("one", "push jobs-*", "see")
	two, twoSecret := tokenFor("two", "pull jobs-a", "* news")
	inWorld(t, Config{Tokens: []Token{one, two}}, func(t *testing.T, w *world) {
		for _, c := range []struct {
			secret, method, path string
			want                 int
		}{
			{"", "POST", "/v1/push/jobs-a", 401}, {"wrong", "POST", "/v1/push/jobs-a", 401}, {oneSecret[:len(oneSecret)-1], "POST", "/v1/push/jobs-a", 401},
			{oneSecret, "POST", "/v1/push/jobs-a", 200}, {oneSecret, "POST", "/v1/push/jobs", 403}, {twoSecret, "POST", "/v1/push/jobs-a", 403},
			{twoSecret, "POST", "/v1/pull/jobs-a", 200}, {twoSecret, "POST", "/v1/pull/jobs-b", 403}, {oneSecret, "POST", "/v1/pull/jobs-a", 403},
			{twoSecret, "POST", "/v1/pub/news/a", 200}, {twoSecret, "POST", "/v1/push/news", 200},
			{oneSecret, "GET", "/v1/status", 200}, {twoSecret, "GET", "/v1/status", 403}, {oneSecret, "GET", "/v1/dead/jobs-a", 403},
			{"", "GET", "/v1/status", 401}, {"", "GET", "/", 200}, {"", "GET", "/livez", 200}, {"", "GET", "/openapi.json", 200},
		} {
			w.secret = c.secret
			if res := w.ask(c.method, c.path, "x"); res.StatusCode != c.want {
				t.Errorf("%s %s with %.5s: %s, want %d: %s", c.method, c.path, c.secret, res.Status, c.want, w.text(res, res.StatusCode))
			} else {
				w.text(res, c.want)
			}
		}
	})
}

func TestStrangersAndPagesOfOtherSitesAreRefused(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		from := func(local net.Addr, host string, header ...string) int {
			r := httptest.NewRequest("POST", "http://"+host+"/v1/push/jobs", strings.NewReader("a"))
			r = r.WithContext(contextWith(r, local))
			for i := 0; i < len(header); i += 2 {
				r.Header.Set(header[i], header[i+1])
			}
			res := httptest.NewRecorder()
			w.g.ServeHTTP(res, r)
			return res.Code
		}
		loopback, lan := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, &net.TCPAddr{IP: net.IPv4(192, 168, 0, 1), Port: 1}
		for _, c := range []struct {
			local  net.Addr
			host   string
			header []string
			want   int
		}{
			{loopback, "localhost:1", nil, 200}, {loopback, "127.0.0.1:1", nil, 200}, {loopback, "[::1]:1", nil, 200},
			{loopback, "evil.example", nil, 403}, {loopback, "127.0.0.1.evil.example:1", nil, 403},
			{lan, "192.168.0.1:1", nil, 403}, {nil, "localhost", nil, 403},
			{loopback, "localhost:1", []string{"Origin", "http://localhost:1"}, 200},
			{loopback, "localhost:1", []string{"Origin", "http://evil.example"}, 403},
			{loopback, "localhost:1", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		} {
			if got := from(c.local, c.host, c.header...); got != c.want {
				t.Errorf("%v asked as %s with %q: %d, want %d", c.local, c.host, c.header, got, c.want)
			}
		}
		token, secret := tokenFor("one", "* *")
		if err := w.g.Reload(Config{Tokens: []Token{token}}); err != nil {
			t.Fatal(err)
		}
		if got := from(lan, "mesh.example", "Authorization", "Bearer "+secret); got != 403 {
			t.Errorf("a token in plain text from elsewhere: %d, want 403", got)
		}
		if err := w.g.Reload(Config{Open: true}); err != nil {
			t.Fatal(err)
		}
		if got := from(lan, "mesh.example"); got != 200 {
			t.Errorf("a gateway that is open: %d, want 200", got)
		}
	})
}

func TestTLSAndATokenLetInWhoComesFromElsewhere(t *testing.T) {
	token, secret := tokenFor("one", "* *")
	inWorld(t, Config{Tokens: []Token{token}}, func(t *testing.T, w *world) {
		r := httptest.NewRequest("POST", "https://mesh.example/v1/push/jobs", strings.NewReader("a"))
		r = r.WithContext(contextWith(r, &net.TCPAddr{IP: net.IPv4(192, 168, 0, 1)}))
		r.TLS = &tls.ConnectionState{}
		r.Header.Set("Authorization", "Bearer "+secret)
		res := httptest.NewRecorder()
		if w.g.ServeHTTP(res, r); res.Code != 200 {
			t.Errorf("%d: %s", res.Code, res.Body)
		}
	})
}

func TestMistakesAreToldWithTheNextStep(t *testing.T) {
	inWorld(t, Config{Limits: Limits{Body: 1000, Bodies: 1000}}, func(t *testing.T, w *world) {
		w.problem(w.ask("GET", "/v1/nothing", ""), 404, "no-route")
		w.problem(w.ask("GET", "/v1/push/jobs", ""), 405, "method")
		w.problem(w.ask("POST", "/v1/push/jobs?wiat=1", ""), 400, "invalid")
		w.problem(w.ask("POST", "/v1/push/jobs?wait=a", ""), 400, "invalid")
		w.problem(w.ask("POST", "/v1/push/jobs?wait=1&wait=2", ""), 400, "invalid")
		w.problem(w.ask("POST", "/v1/push/jobs", "a", "Peermesh-Ttl", "1ns"), 400, "invalid")
		w.problem(w.ask("POST", "/v1/push/jobs", "a", "Peermesh-Headers", "{"), 400, "invalid")
		w.problem(w.ask("POST", "/v1/push/a%00b", "a"), 400, "invalid")
		w.problem(w.ask("POST", "/v1/push/"+strings.Repeat("a", 256), "a"), 400, "invalid")
		w.problem(w.ask("POST", "/v1/push/jobs", "a", "Idempotency-Key", strings.Repeat("a", 256)), 400, "invalid")
		w.problem(w.ask("POST", "/v1/pub/news/a", "a", "Peermesh-Key", "k"), 400, "invalid")
		w.problem(w.ask("POST", "/v1/req/upper", "a", "Peermesh-Delay", "1"), 400, "invalid")
		w.problem(w.ask("POST", "/v1/push/jobs", strings.Repeat("a", 1001)), 413, "too-large")
		w.problem(w.askWith(t.Context(), "POST", "/v1/push/jobs", io.MultiReader(strings.NewReader(strings.Repeat("a", 1001)))), 413, "too-large")
		w.text(w.ask("POST", "/v1/push/jobs", strings.Repeat("a", 900)), 200)
		if out := w.g.bodies.out.Load(); out != 0 {
			t.Errorf("%d bytes of bodies are still taken", out)
		}
		w.text(w.ask("POST", "/v1/push/a%2Fb", "a"), 200)
		if got := w.text(w.ask("POST", "/v1/pull/a%2Fb", ""), 200); got != "a" {
			t.Errorf("%q", got)
		}
	})
}

func TestHeadersTravelAsTheyAre(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		exact := map[string]string{"Über": "ж\n😀", "Case": "A", "plain": "b"}
		text, err := json.Marshal(exact)
		if err != nil {
			t.Fatal(err)
		}
		trace := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		w.text(w.ask("POST", "/v1/push/jobs", "a", "Peermesh-Headers", asciiJSON(exact), "Traceparent", trace, "Tracestate", "a=b", "Peermesh-Header-x", "y"), 200)
		res := w.ask("POST", "/v1/pull/jobs", "")
		w.text(res, 200)
		var got map[string]string
		if err := json.Unmarshal([]byte(res.Header.Get("Peermesh-Headers")), &got); err != nil {
			t.Fatal(err)
		}
		want := maps.Clone(exact)
		maps.Copy(want, map[string]string{"traceparent": trace, "tracestate": "a=b", "x": "y"})
		if !maps.Equal(got, want) || res.Header.Get("Peermesh-Header-Plain") != "b" || res.Header.Get("Traceparent") != trace {
			t.Errorf("%v (sent %s), want %v; %v", got, text, want, res.Header)
		}
	})
}

func TestBoundsAreKeptAndTold(t *testing.T) {
	limits := Limits{Names: 2, Leases: 1, Streams: 1, Requests: 2}
	inWorld(t, Config{Limits: limits}, func(t *testing.T, w *world) {
		w.text(w.ask("POST", "/v1/push/a", "1"), 200)
		w.text(w.ask("POST", "/v1/push/a", "2"), 200)
		res := w.ask("POST", "/v1/pull/a?lease=60", "")
		w.text(res, 200)
		w.problem(w.ask("POST", "/v1/pull/a?wait=0", ""), 503, "leases")
		w.problem(w.ask("POST", "/v1/push/b", "1"), 503, "names")
		w.text(w.ask("POST", res.Header.Get("Peermesh-Ack"), ""), 200)
		if got := w.ask("POST", "/v1/push/b", "1"); w.text(got, 200) == "" || got.Header.Get("Retry-After") != "" {
			t.Errorf("the puller that nobody uses made no room: %v", got.Header)
		}
		for _, s := range w.g.status().Sockets {
			if s.Kind == "push" && s.Ledger.Queued+s.Ledger.Leased == 0 {
				t.Errorf("%+v was kept instead of the puller", s)
			}
		}
	})
	inWorld2(t, Config{Limits: limits}, func(t *testing.T, w *world) {
		ws := w.dial("/v1/sub/news")
		w.hear(ws, "open")
		w.problem(w.ask("GET", "/v1/sub/news", "", "Accept", "text/event-stream"), 503, "streams")
		go func() {
			if res, err := w.try(t.Context(), "POST", "/v1/pull/a?wait=9", nil); err == nil {
				res.Body.Close()
			}
		}()
		synctest.Wait()
		res := w.ask("GET", "/v1/status", "")
		if w.problem(res, 503, "busy"); res.Header.Get("Retry-After") == "" {
			t.Errorf("%v", res.Header)
		}
		w.text(w.ask("GET", "/livez", ""), 200)
		ws.CloseNow()
		time.Sleep(10 * time.Second)
		w.text(w.ask("GET", "/v1/status", ""), 200)
	})
}

// speak opens a connection, sends text as it is, and reads the answer.
func (w *world) speak(text string) (net.Conn, *http.Response) {
	w.t.Helper()
	c, err := w.lines.dial(w.t.Context(), "", "")
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := io.WriteString(c, text); err != nil {
		w.t.Fatal(err)
	}
	r := httptest.NewRequest("POST", "/", nil)
	res, err := http.ReadResponse(bufio.NewReader(c), r)
	if err != nil {
		w.t.Fatal(err)
	}
	return c, res
}

func TestBodyThatDoesNotComeIsRefusedInTime(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		began := time.Now()
		c, res := w.speak("POST /v1/push/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc")
		defer c.Close()
		if w.problem(res, 408, "slow"); time.Since(began) != 30*time.Second || !res.Close {
			t.Errorf("after %v, closes: %v; want 30s and closed", time.Since(began), res.Close)
		}
		if taken := w.g.bodies.out.Load(); taken != 0 {
			t.Errorf("%d bytes are still taken", taken)
		}
	})
}

func TestWhatTheProgramAroundItLacksMakesAGatewayNotReady(t *testing.T) {
	var broken error
	inWorld(t, Config{Ready: func() error { return broken }}, func(t *testing.T, w *world) {
		w.text(w.ask("GET", "/readyz", ""), 200)
		broken = errors.New("the bridge is down")
		if text := w.problem(w.ask("GET", "/readyz", ""), 503, "not-ready"); text.Detail != "the bridge is down" {
			t.Errorf("got %+v", text)
		}
	})
}

func TestMetricsAreForTokensThatMaySee(t *testing.T) {
	one, oneSecret := tokenFor("one", "see")
	two, twoSecret := tokenFor("two", "push *")
	cfg := Config{Tokens: []Token{one, two}, Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "peermesh_up 1\n")
	})}
	inWorld(t, cfg, func(t *testing.T, w *world) {
		for secret, want := range map[string]int{"": 401, twoSecret: 403} {
			w.secret = secret
			w.text(w.ask("GET", "/metrics", ""), want)
		}
		w.secret = oneSecret
		cfg.Metrics = nil // a reload leaves it
		if err := w.g.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		if text := w.text(w.ask("GET", "/metrics", ""), 200); text != "peermesh_up 1\n" {
			t.Errorf("got %q", text)
		}
	})
}

func TestWithoutMetricsThereIsNoRouteToThem(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		w.problem(w.ask("GET", "/metrics", ""), 404, "no-route")
	})
}

func TestDescriptionHasEveryRouteAndEveryRouteAnswers(t *testing.T) {
	inWorld(t, Config{Metrics: http.NotFoundHandler()}, func(t *testing.T, w *world) {
		var doc struct {
			OpenAPI string
			Paths   map[string]map[string]struct {
				Summary    string
				Parameters []struct{ In, Name string }
				Responses  map[string]struct{ Description string }
				Security   []map[string][]string
			}
		}
		w.decode(w.ask("GET", "/openapi.json", ""), &doc)
		routes := w.g.routes()
		n := 0
		for path, methods := range doc.Paths {
			for method, op := range methods {
				n++
				i := slices.IndexFunc(routes, func(r route) bool { return r.path == path && strings.EqualFold(r.method, method) })
				if i < 0 || op.Summary == "" || op.Responses["default"].Description == "" || (len(op.Security) > 0) != (routes[i].verb != "") {
					t.Errorf("%s %s: %+v", method, path, op)
					continue
				}
				real := strings.NewReplacer("{name}", "x", "{topic}", "x", "{lease}", "x", "{seq}", "1", "{$}", "").Replace(path)
				real += "?"
				for _, p := range op.Parameters {
					if p.In == "query" {
						real += p.Name + "=1&"
					}
				}
				res := w.ask(strings.ToUpper(method), real, "")
				if text := w.text(res, res.StatusCode); res.StatusCode == 405 || strings.Contains(text, "no-route") || strings.Contains(text, "not known here") {
					t.Errorf("%s %s: %s: %s", method, real, res.Status, text)
				}
			}
		}
		if n != len(routes) || !strings.HasPrefix(doc.OpenAPI, "3.1") {
			t.Errorf("%d operations of %d routes, version %q", n, len(routes), doc.OpenAPI)
		}
	})
}

func TestEveryErrorOfASocketIsAProblemWithANextStep(t *testing.T) {
	for _, err := range []error{socket.ErrClosed, socket.ErrTooLarge, socket.ErrQueueFull, socket.ErrUnknown, socket.ErrStorage, socket.ErrNoDir,
		errLeaving, errors.New("other")} {
		if p := problemOf(err); p.Next == "" || p.Title == "" || p.Status < 400 {
			t.Errorf("%v: %+v", err, p)
		}
	}
}

func TestRightsAreParsedOrRefused(t *testing.T) {
	for text, want := range map[string]bool{"push jobs": true, "* *": true, "pull a*": true, "see": true, "see x": true, "push": false, "push ": false,
		"fly jobs": false, "push a*b": false, "": false, "push  a": false, "* a*": true} {
		if _, err := ParseRight(text); (err == nil) != want {
			t.Errorf("%q: %v, want ok %v", text, err, want)
		}
	}
	for _, text := range []string{"", "sha256:", "sha256:" + strings.Repeat("g", 64), strings.Repeat("0", 64), "sha256:" + strings.Repeat("0", 63)} {
		if _, err := ParseHash(text); err == nil {
			t.Errorf("%q was taken for a hash", text)
		}
	}
}

func TestConfigIsCheckedBeforeItIsInForce(t *testing.T) {
	for _, c := range []Config{{Prefetch: -1}, {Lease: time.Millisecond}, {Limits: Limits{Body: 1 << 40}}, {Limits: Limits{Body: 100, Bodies: 10}},
		{Limits: Limits{Conns: -1}}, {Limits: Limits{Wait: -1}}, {Limits: Limits{Header: 10}}, {Tokens: []Token{{Name: "a"}}}, {Tokens: []Token{{}}}} {
		if _, err := c.complete(); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
	if _, err := (Config{}).complete(); err != nil {
		t.Error(err)
	}
}

func FuzzHeadersSurviveTheirWay(f *testing.F) {
	f.Add("plain", "value")
	f.Add("Ключ", "\n\x7f😀")
	f.Fuzz(func(t *testing.T, k, v string) {
		h := http.Header{}
		putHeaders(h, socket.Headers{k: v})
		for name, vs := range h {
			if !clean(name) || !clean(vs[0]) {
				t.Fatalf("%q: %q cannot travel", name, vs)
			}
		}
		back, err := headersOf(h)
		if valid := strings.ToValidUTF8(k, "\ufffd") == k && strings.ToValidUTF8(v, "\ufffd") == v; valid && (err != nil || back[k] != v) {
			t.Fatalf("%q=%q came back as %q (%v) by %v", k, v, back, err, h)
		}
	})
}

func FuzzOrdersAndAnswersNeverPanic(f *testing.F) {
	f.Add([]byte(`{"ack":"x"}`))
	f.Add([]byte(`{"id":"x","text":"y"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if o, err := parseOrder(data); err == nil && o.Ack+o.Nack+o.Extend == "" {
			t.Errorf("%q: an order without a lease", data)
		}
		if id, r, err := parseAnswer(data); err == nil && (id == "" || r.err != nil && r.body != nil) {
			t.Errorf("%q: %q %+v", data, id, r)
		}
	})
}

func TestPageLoadsItsOwnFilesAndNothingElse(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		for path, kind := range map[string]string{"/": "text/html", "/page.css": "text/css", "/page.js": "text/javascript"} {
			res := w.ask("GET", path, "")
			text := w.text(res, 200)
			policy := res.Header.Get("Content-Security-Policy")
			if !strings.HasPrefix(res.Header.Get("Content-Type"), kind) || !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
				t.Errorf("%s: %v", path, res.Header)
			}
			for _, word := range []string{"http://", "https://", " style=", " onclick=", "<script>", "<style>", "innerHTML", "eval("} {
				if strings.Contains(text, word) {
					t.Errorf("%s holds %s", path, word)
				}
			}
		}
	})
}
