package discovery

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestAnEntryThatIsNotHostPortIsAnErrorThatSaysSo(t *testing.T) {
	for entry, want := range map[string]string{
		"":                              "want host:port",
		"node.example":                  "want host:port",
		"10.0.0.7":                      "want host:port",
		"fd00::7":                       "want host:port",
		"http://node:4477":              "want host:port",
		"node:":                         "want a number from 1 to 65535",
		"node:0":                        "want a number from 1 to 65535",
		"node:65536":                    "want a number from 1 to 65535",
		"node:http":                     "want a number from 1 to 65535",
		":4477":                         "host name of 0 characters",
		"a b:4477":                      "' ' in a host name",
		"x/y:4477":                      "'/' in a host name",
		"10.0.0.256:4477":               "neither an IP address nor a host name",
		"10.0.0:4477":                   "neither an IP address nor a host name",
		"10.0.0.:4477":                  "neither an IP address nor a host name",
		"0.0.0.0:4477":                  "not the address of a host",
		"[ff02::1]:4477":                "not the address of a host",
		"[fe80::1]:4477":                "want [fe80::1%eth0]:4477",
		strings.Repeat("a", 300) + ":1": "host name of 300 characters",
	} {
		_, err := NewStatic([]string{"10.0.0.1:1", entry}, nil)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "discovery: static peer ") {
			t.Errorf("%q: got %v, want %q", entry, err, want)
		}
	}
}

func FuzzParseStatic(f *testing.F) {
	for _, entry := range []string{"10.0.0.7:4477", "[fe80::1%eth0]:1", "node.example.:65535", "::ffff:1.2.3.4:5"} {
		f.Add(entry)
	}
	f.Fuzz(func(t *testing.T, entry string) {
		literal, name, err := parseStatic(entry)
		if err != nil {
			return
		}
		if literal.IsValid() == (name.host != "") {
			t.Fatalf("%q is %v and %v", entry, literal, name)
		}
		text := name.String()
		if literal.IsValid() {
			text = literal.String()
		}
		literal2, name2, err := parseStatic(text)
		if err != nil || literal2 != literal || name2 != name {
			t.Fatalf("%q became %q, which is %v, %v, %v", entry, text, literal2, name2, err)
		}
	})
}

// nameServer is a resolver in memory.
type nameServer struct {
	mu    sync.Mutex
	names map[string][]netip.Addr
	err   error
	asked []time.Duration // since the bubble began
	slow  bool            // never answers
}

func (n *nameServer) lookup(ctx context.Context, network, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, time.Since(bubbleStart))
	if n.slow {
		n.mu.Unlock()
		<-ctx.Done()
		n.mu.Lock()
		return nil, &net.DNSError{Err: "i/o timeout", Name: host, IsTimeout: true}
	}
	if n.err != nil {
		return nil, n.err
	}
	list, ok := n.names[host]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return list, nil
}

func (n *nameServer) set(host string, texts ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names[host] = addrs(texts...)
}

func (n *nameServer) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.err = err
}

// bubbleStart is the time at which every synctest bubble begins.
var bubbleStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// startStatic runs a Static on n and returns a function for its news since the last call.
func startStatic(t *testing.T, n *nameServer, entries ...string) (news func() string) {
	var (
		mu     sync.Mutex
		events []Event
	)
	s, err := NewStatic(entries, func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Candidate.Source != SourceStatic {
			t.Errorf("the source of %+v is not static", e)
		}
		events = append(events, e)
	}, StaticLookup(n.lookup))
	if err != nil {
		t.Fatal(err)
	}
	s.random = func() float64 { return 0.5 }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	})
	synctest.Wait()
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		text := brief(events)
		events = nil
		return text
	}
}

func TestLiteralAddressesNeedNoDNS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &nameServer{err: errors.New("unplugged")}
		news := startStatic(t, n, "10.0.0.7:1", "[fe80::1%eth0]:2", "10.0.0.7:1", "[::ffff:10.0.0.7]:1", "10.0.0.7:3")
		advance(time.Hour)
		if got, want := news(), "found 10.0.0.7:1, found 10.0.0.7:3, found [fe80::1%eth0]:2"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if len(n.asked) != 0 {
			t.Errorf("asked the name server %d times", len(n.asked))
		}
	})
}

func TestNamesAreFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &nameServer{names: make(map[string][]netip.Addr)}
		n.set("jobs.example", "10.0.0.1", "fd00::1", "::ffff:10.0.0.1", "0.0.0.0")
		n.set("more.example", "10.0.0.1")
		news := startStatic(t, n, "jobs.example:4477", "Jobs.Example:4477", "more.example:4477")
		if got, want := news(), "found 10.0.0.1:4477, found [fd00::1]:4477"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		n.set("jobs.example", "10.0.0.2")
		advance(lookupPace)
		if got, want := news(), "found 10.0.0.2:4477, lost [fd00::1]:4477"; got != want {
			t.Errorf("got %q, want %q; the other name still leads to 10.0.0.1", got, want)
		}
		n.set("more.example", "10.0.0.2")
		advance(lookupPace)
		if got, want := news(), "lost 10.0.0.1:4477"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestANameServerThatIsDownTakesNothingAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &nameServer{names: make(map[string][]netip.Addr)}
		n.set("jobs.example", "10.0.0.1")
		news := startStatic(t, n, "jobs.example:4477")
		news()
		for _, c := range []struct {
			err  error
			want string
		}{
			{&net.DNSError{Err: "read udp 10.0.0.5:33333: connection refused", IsTemporary: true}, "the name server cannot be asked"},
			{&net.DNSError{Err: "i/o timeout", IsTimeout: true}, "the name server does not answer"},
			{&net.DNSError{Err: "no such host", IsNotFound: true}, "no such host"},
			{errors.New("odd"), "odd"},
		} {
			n.fail(c.err)
			advance(time.Hour)
			if got, want := news(), "problem  static peer jobs.example:4477: "+c.want; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		n.set("jobs.example")
		n.fail(nil)
		advance(time.Hour)
		if got, want := news(), "problem  static peer jobs.example:4477: no address"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		n.set("jobs.example", "10.0.0.2")
		advance(time.Minute)
		if got, want := news(), "solved  <nil>, found 10.0.0.2:4477, lost 10.0.0.1:4477"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestAFailingNameIsAskedWithGrowingPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &nameServer{}
		startStatic(t, n, "jobs.example:4477")
		advance(2 * time.Minute)
		want := []int{0, 1, 3, 7, 15, 31, 61, 91}
		for i, at := range want {
			if i >= len(n.asked) || n.asked[i] != time.Duration(at)*time.Second {
				t.Fatalf("asked at %v, want %v", n.asked, want)
			}
		}
	})
}

func TestASlowNameServerHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &nameServer{slow: true}
		news := startStatic(t, n, "10.0.0.7:1", "jobs.example:4477")
		if got, want := news(), "found 10.0.0.7:1"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		advance(lookupTimeout)
		if got, want := news(), "problem  static peer jobs.example:4477: the name server does not answer"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}) // the cleanup ends Run in the middle of a lookup
}

func TestAddressesOfANameAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var list []netip.Addr
		for i := range 2 * maxPerName {
			list = append(list, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
		}
		n := &nameServer{names: map[string][]netip.Addr{"jobs.example": list}}
		news := startStatic(t, n, "jobs.example:4477")
		if got := strings.Count(news(), "found"); got != maxPerName {
			t.Errorf("%d found, want %d", got, maxPerName)
		}
	})
}

func TestASecondRunOfStaticIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := NewStatic(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		if err := s.Run(ctx); !errors.Is(err, errStaticRunning) {
			t.Errorf("a second Run returned %v", err)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	})
}
