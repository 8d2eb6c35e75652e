package discovery

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// advance lets fake time pass, and then everybody finish what that started.
func advance(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// ether is a set of links in memory. Two interfaces are on one link if they have a network in
// common that is not link-local. Like Linux,
// it hands a question to every server of a host that has one on the link, and like the library
// the asker keeps the TXT record that came last.
type ether struct {
	mu      sync.Mutex
	hosts   []*testHost
	asked   int                         // questions so far, over any interface and family
	replies func(f family) []reply      // answers of somebody else
	shake   func(servers []*testServer) // may reorder the answers
}

// testHost is a machine on the ether with one node; it is the lan of that node.
type testHost struct {
	ether *ether
	mdns  *MDNS

	mu      sync.Mutex
	advert  Advert
	linked  string
	ifaces  []Interface
	noList  error            // why the interfaces cannot be listed
	noHear  map[string]error // why it cannot listen, by interface
	noAsk   map[string]error // why it cannot ask, by interface
	servers []*testServer
	zone    *zone // of the last server
	served  int   // calls of serve
	events  []Event
	stop    func()
}

type testServer struct {
	iface Interface
	zone  *zone
}

// host adds a machine and starts its node, which stops when the test ends.
func (e *ether) host(t *testing.T, n byte, ifaces ...Interface) *testHost {
	h := e.idle(n, ifaces...)
	h.start(t)
	return h
}

// idle adds a machine whose node does not run.
func (e *ether) idle(n byte, ifaces ...Interface) *testHost {
	h := &testHost{ether: e, ifaces: ifaces, noHear: make(map[string]error), noAsk: make(map[string]error)}
	h.advert = Advert{Node: testNode(n), Port: 4000 + uint16(n), Incarnation: 1, Nonce: [4]byte{n}}
	h.mdns = NewMDNS(MDNSConfig{
		Advert:     func() Advert { h.mu.Lock(); defer h.mu.Unlock(); return h.advert },
		Linked:     func(node string) bool { h.mu.Lock(); defer h.mu.Unlock(); return node == h.linked },
		Handle:     func(ev Event) { h.mu.Lock(); defer h.mu.Unlock(); h.events = append(h.events, ev) },
		Interfaces: func() ([]Interface, error) { h.mu.Lock(); defer h.mu.Unlock(); return h.ifaces, h.noList },
	})
	h.mdns.lan = h
	h.mdns.random = func() float64 { return 0.5 }
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hosts = append(e.hosts, h)
	return h
}

// start runs the node of h.
func (h *testHost) start(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- h.mdns.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
		if len(h.servers) != 0 {
			t.Errorf("%d servers are left after Run", len(h.servers))
		}
		if h.zone != nil && askZone(h.zone) != nil {
			t.Error("the zone still answers after Run")
		}
	})
	t.Cleanup(h.stop)
}

// change does something to the host under its lock.
func (h *testHost) change(do func(h *testHost)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	do(h)
}

// news returns the events since the last call, in brief.
func (h *testHost) news() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	events := h.events
	h.events = nil
	return brief(events)
}

func (h *testHost) check(i Interface) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.noHear[i.Name]
}

func (h *testHost) serve(i Interface, z *zone) (func(), error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.noHear[i.Name]; err != nil && err != errHalfDeaf {
		return nil, err
	}
	s := &testServer{iface: i, zone: z}
	h.servers, h.zone = append(h.servers, s), z
	h.served++
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.servers = slices.DeleteFunc(h.servers, func(other *testServer) bool { return other == s })
	}, nil
}

// errHalfDeaf keeps a host from listening over one family only.
var errHalfDeaf = errors.New("half deaf")

func (h *testHost) ask(_ context.Context, i Interface, f family) ([]reply, error) {
	if err := h.cannotAsk(i); err != nil {
		return nil, err
	}
	replies := h.ether.question(i, f)
	<-time.After(askTime) // like the library, whatever becomes of the context
	return replies, h.cannotAsk(i)
}

func (h *testHost) cannotAsk(i Interface) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.noAsk[i.Name]
}

// question asks everybody who hears it, and keeps the last answer of each instance.
func (e *ether) question(i Interface, f family) []reply {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked++
	var heard []*testServer
	for _, h := range e.hosts {
		h.mu.Lock()
		if slices.ContainsFunc(h.servers, func(s *testServer) bool { return sameLink(s.iface, i) }) {
			heard = append(heard, h.servers...)
		}
		h.mu.Unlock()
	}
	if e.shake != nil {
		e.shake(heard)
	}
	last := make(map[string][]string)
	for _, s := range heard {
		for _, r := range s.zone.Records(dns.Question{Name: serviceName, Qtype: dns.TypePTR, Qclass: dns.ClassINET}) {
			if txt, ok := r.(*dns.TXT); ok {
				last[txt.Hdr.Name] = txt.Txt
			}
		}
	}
	var replies []reply
	for name, txt := range last {
		replies = append(replies, reply{name, txt})
	}
	if e.replies != nil {
		replies = append(replies, e.replies(f)...)
	}
	return replies
}

func sameLink(a, b Interface) bool {
	return slices.ContainsFunc(a.Addrs, func(p netip.Prefix) bool {
		return slices.ContainsFunc(b.Addrs, func(q netip.Prefix) bool {
			return p.Masked() == q.Masked() && !p.Addr().IsLinkLocalUnicast()
		})
	})
}

func TestNodesOnALinkFindEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e ether
		a := e.host(t, 1, eth0("10.0.0.1/24", "fe80::1/64"))
		b := e.host(t, 2, eth0("10.0.0.2/24", "fe80::2/64"))
		e.host(t, 3, eth0("10.1.0.3/24")) // elsewhere
		advance(3 * time.Second)
		if got, want := a.news(), "found 10.0.0.2:4002, found [fe80::2%eth0]:4002"; got != want {
			t.Errorf("a heard %q, want %q", got, want)
		}
		if got, want := b.news(), "found 10.0.0.1:4001, found [fe80::1%eth0]:4001"; got != want {
			t.Errorf("b heard %q, want %q", got, want)
		}
		advance(10 * time.Minute)
		if got := a.news() + b.news(); got != "" {
			t.Errorf("later news: %q", got)
		}
	})
}

func TestACandidateCarriesWhatTheAdvertSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e ether
		a := e.host(t, 1, eth0("10.0.0.1/24"))
		b := e.idle(2, eth0("10.0.0.2/24"))
		b.advert.Mesh, b.advert.Incarnation = [8]byte{7}, 41
		b.start(t)
		advance(3 * time.Second)
		want := Candidate{
			Node: testNode(2), Addr: netip.MustParseAddrPort("10.0.0.2:4002"), Source: SourceMDNS, Interface: "eth0",
			Version: 1, Mesh: [8]byte{7}, Incarnation: 41, Nonce: [4]byte{2},
		}
		if len(a.events) != 1 || a.events[0] != (Event{Kind: Found, Candidate: want}) {
			t.Errorf("got %+v\nwant %+v", a.events, want)
		}
		b.change(func(b *testHost) { b.advert.Incarnation, b.advert.Nonce = 42, [4]byte{9} })
		advance(time.Minute)
		want.Incarnation, want.Nonce = 42, [4]byte{9}
		if len(a.events) != 2 || a.events[1].Candidate != want {
			t.Errorf("after a restart got %+v\nwant %+v", a.events, want)
		}
	})
}

// A host with two interfaces answers twice, and which answer is heard is chance.
func TestAHostWithManyInterfacesIsFoundAtTheRightAddressWhateverServerAnswersLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turn atomic.Uint32
		e := ether{shake: func(servers []*testServer) {
			if turn.Add(1)%2 == 0 {
				slices.Reverse(servers)
			}
		}}
		docker := iface(3, "docker0", usual, "172.17.0.1/16", "fe80::d/64")
		a := e.host(t, 1, eth0("10.0.0.1/24", "fe80::1/64"))
		b := e.host(t, 2, eth0("10.0.0.2/24", "fe80::2/64"), docker)
		c := e.host(t, 3, iface(2, "eth0", usual, "172.17.0.5/16"))
		advance(30 * time.Minute)
		if got, want := a.news(), "found 10.0.0.2:4002, found [fe80::2%eth0]:4002"; got != want {
			t.Errorf("a heard %q, want %q", got, want)
		}
		if got, want := c.news(), "found 172.17.0.1:4002, found [fe80::d%eth0]:4002"; got != want {
			t.Errorf("c heard %q, want %q", got, want)
		}
		if got, want := b.news(), "found 10.0.0.1:4001, found [fe80::1%eth0]:4001, found 172.17.0.5:4003"; got != want {
			t.Errorf("b heard %q, want %q", got, want)
		}
	})
}

func TestANodeThatGoesIsLostAndLinkedOnesStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e ether
		a := e.host(t, 1, eth0("10.0.0.1/24"))
		b := e.host(t, 2, eth0("10.0.0.2/24"))
		c := e.host(t, 3, eth0("10.0.0.3/24"))
		a.change(func(a *testHost) { a.linked = testNode(3) })
		advance(time.Minute)
		a.news()
		b.stop()
		c.stop()
		advance(100 * time.Second)
		if got := a.news(); got != "" {
			t.Errorf("too early: %q", got)
		}
		advance(100 * time.Second)
		if got, want := a.news(), "lost 10.0.0.2:4002"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		a.change(func(a *testHost) { a.linked = "" })
		advance(200 * time.Second)
		if got, want := a.news(), "lost 10.0.0.3:4003"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestRefreshFindsANewcomerWithinSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e ether
		a := e.host(t, 1, eth0("10.0.0.1/24"))
		advance(18 * time.Second) // the fast questions are over
		e.host(t, 2, eth0("10.0.0.2/24"))
		advance(time.Millisecond)
		if got := a.news(); got != "" {
			t.Errorf("heard %q before asking", got)
		}
		for range 10 {
			a.mdns.Refresh()
		}
		advance(2 * time.Second)
		if got, want := a.news(), "found 10.0.0.2:4002"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestAChangeOfTheInterfacesAsksFastAgain(t *testing.T) {
	eth1 := iface(3, "eth1", usual, "10.1.0.1/24")
	for name, change := range map[string]func(h *testHost){
		"an interface comes":  func(h *testHost) { h.ifaces = []Interface{eth0("10.0.0.1/24"), eth1} },
		"an address changes":  func(h *testHost) { h.ifaces = []Interface{eth0("10.1.0.1/24")} },
		"the name stays only": func(h *testHost) { h.ifaces = []Interface{iface(9, "eth0", usual, "10.1.0.1/24")} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var e ether
				a := e.host(t, 1, eth0("10.0.0.1/24"))
				b := e.host(t, 2, eth0("10.1.0.2/24"))
				advance(20 * time.Second)
				a.change(change)
				advance(watchEvery + 2*time.Second)
				if got, want := a.news(), "found 10.1.0.2:4002"; got != want {
					t.Errorf("a heard %q, want %q", got, want)
				}
				b.mdns.Refresh()
				advance(2 * time.Second)
				if got, want := b.news(), "found 10.1.0.1:4001"; got != want {
					t.Errorf("b heard %q, want %q: is the new interface served?", got, want)
				}
			})
		})
	}
}

func TestATroubleIsToldOnceTriedAgainAndSolved(t *testing.T) {
	const found = "found 10.0.0.2:4002"
	denied := errors.New("denied")
	for name, c := range map[string]struct {
		harm, mend    func(h *testHost)
		before, after string
	}{
		"cannot ask": {
			func(h *testHost) { h.noAsk["eth0"] = denied }, func(h *testHost) { delete(h.noAsk, "eth0") },
			"problem eth0 denied", "solved eth0 <nil>, " + found,
		},
		"cannot listen": {
			func(h *testHost) { h.noHear["eth0"] = denied }, func(h *testHost) { delete(h.noHear, "eth0") },
			"problem eth0 denied, " + found, "solved eth0 <nil>",
		},
		"listens over one family": {
			func(h *testHost) { h.noHear["eth0"] = errHalfDeaf }, func(h *testHost) { delete(h.noHear, "eth0") },
			"problem eth0 half deaf, " + found, "solved eth0 <nil>",
		},
		"no interface": {
			func(h *testHost) { h.ifaces = nil }, func(h *testHost) { h.ifaces = []Interface{eth0("10.0.0.1/24")} },
			"problem  " + errNoInterface.Error(), "solved  <nil>, " + found,
		},
		"no list of interfaces": {
			func(h *testHost) { h.noList = denied }, func(h *testHost) { h.noList = nil },
			"problem  list network interfaces: denied", "solved  <nil>, " + found,
		},
		"an advert without a proper id": {
			func(h *testHost) { h.advert.Node = "me" }, func(h *testHost) { h.advert.Node = testNode(1) },
			"problem  own advert: node id has 2 characters, want 26, " + found, "solved  <nil>",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var e ether
				a := e.idle(1, eth0("10.0.0.1/24"))
				c.harm(a)
				a.start(t)
				b := e.host(t, 2, eth0("10.0.0.2/24"))
				advance(5 * time.Minute)
				if got := a.news(); got != c.before {
					t.Errorf("before: got %q, want %q", got, c.before)
				}
				a.change(c.mend)
				advance(time.Minute)
				if got := a.news(); got != c.after {
					t.Errorf("after: got %q, want %q", got, c.after)
				}
				if got, want := b.news(), "found 10.0.0.1:4001"; got != want {
					t.Errorf("b heard %q, want %q", got, want)
				}
			})
		})
	}
}

func TestTroublesEndWithTheirInterface(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e ether
		a := e.idle(1, eth0("10.0.0.1/24"), iface(3, "eth1", usual, "10.1.0.1/24"))
		a.noAsk["eth1"] = errors.New("denied")
		a.start(t)
		advance(5 * time.Second)
		a.change(func(h *testHost) { h.ifaces = h.ifaces[:1] })
		advance(time.Minute)
		if got, want := a.news(), "problem eth1 denied, solved eth1 <nil>"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestALateErrorOfAnInterfaceThatIsGoneIsNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e ether
		a := e.host(t, 1, eth0("10.0.0.1/24"), iface(3, "eth1", usual, "10.1.0.1/24"))
		advance(2500 * time.Millisecond) // the third question is out
		a.change(func(h *testHost) { h.ifaces, h.noAsk["eth1"] = h.ifaces[:1], errors.New("gone") })
		advance(time.Minute)
		if got := a.news(); got != "" {
			t.Errorf("got %q, want nothing", got)
		}
	})
}

func TestNothingIsAskedOrServedOnceAllInterfacesAreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e ether
		a := e.host(t, 1, eth0("10.0.0.1/24"))
		advance(20 * time.Second)
		a.change(func(h *testHost) { h.ifaces = nil })
		advance(watchEvery)
		before := e.asked
		advance(time.Minute)
		if e.asked != before || len(a.servers) != 0 {
			t.Errorf("%d questions since, %d servers", e.asked-before, len(a.servers))
		}
	})
}

func TestAServerWithALimitIsLeftAloneWhileNothingChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e ether
		a := e.idle(1, eth0("10.0.0.1/24"))
		a.noHear["eth0"] = errHalfDeaf
		a.start(t)
		advance(5 * time.Minute)
		if a.served != 1 {
			t.Errorf("the server was started %d times, want once", a.served)
		}
	})
}

func TestCandidatesOutliveATimeWithoutQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e ether
		a := e.host(t, 1, eth0("10.0.0.1/24"))
		e.host(t, 2, eth0("10.0.0.2/24"))
		advance(20 * time.Second)
		a.change(func(h *testHost) { h.noAsk["eth0"] = errors.New("denied") })
		advance(time.Hour)
		a.change(func(h *testHost) { delete(h.noAsk, "eth0") })
		advance(time.Hour)
		if got, want := a.news(), "found 10.0.0.2:4002, problem eth0 denied, solved eth0 <nil>"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestAnUnreadableListOfInterfacesChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e ether
		a := e.host(t, 1, eth0("10.0.0.1/24"))
		advance(20 * time.Second)
		a.change(func(h *testHost) { h.noList = errors.New("netlink is busy") })
		e.host(t, 2, eth0("10.0.0.2/24"))
		advance(time.Minute)
		if got, want := a.news(), "problem  list network interfaces: netlink is busy, found 10.0.0.2:4002"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestADuplicateIdentityIsReportedAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e ether
		a := e.host(t, 1, eth0("10.0.0.1/24"))
		b := e.idle(1, eth0("10.0.0.2/24"))
		b.advert.Nonce = [4]byte{99}
		e.shake = func(servers []*testServer) { // now the one, now the other is heard last
			if int(time.Since(bubbleStart).Seconds())%4 >= 2 {
				slices.Reverse(servers)
			}
		}
		b.start(t)
		advance(30 * time.Minute)
		if len(a.events) != 1 || a.events[0].Kind != Problem || a.events[0].Interface != "eth0" {
			t.Fatalf("a heard %q, want one problem", a.news())
		}
		double, ok := errors.AsType[*DuplicateError](a.events[0].Err)
		if !ok || double.Other.Addr != netip.MustParseAddrPort("10.0.0.2:4001") || double.Other.Nonce != b.advert.Nonce {
			t.Errorf("the problem is %v, want a duplicate identity at b", a.events[0].Err)
		}
		a.news()
		b.stop()
		advance(9 * time.Minute)
		if got := a.news(); got != "" {
			t.Errorf("got %q too early", got)
		}
		advance(6 * time.Minute)
		if got, want := a.news(), "solved eth0 <nil>"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestANewNonceOfOurOwnIsNoDuplicate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e ether
		a := e.host(t, 1, eth0("10.0.0.1/24"))
		for n := range byte(100) {
			a.change(func(h *testHost) { h.advert.Nonce = [4]byte{1, n} })
			a.mdns.Refresh()
			advance(700 * time.Millisecond)
		}
		n := byte(0)
		e.mu.Lock()
		e.shake = func([]*testServer) { // from the moment of the question to that of the answer
			n++
			a.change(func(h *testHost) { h.advert.Nonce = [4]byte{2, n} })
		}
		e.mu.Unlock()
		advance(5 * time.Minute)
		if got := a.news(); got != "" {
			t.Errorf("got %q, want nothing", got)
		}
	})
}

func TestMalformedAnswersAreCountedAndStrangersAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := encodeTXT(Advert{Node: testNode(5), Port: 5}, [][]netip.Addr{addrs("10.0.0.5")})
		e := ether{replies: func(family) []reply {
			return []reply{
				{"Printer._ipp._tcp.local.", []string{"rp=queue"}},
				{testNode(5) + "._PeerMesh._udp.local.", good},
				{testNode(6) + "._peermesh._udp.local.", good},
				{"._peermesh._udp.local.", nil},
				{strings.Repeat("x", 70000) + "._peermesh._udp.local.", []string{strings.Repeat("x", 70000)}},
			}
		}}
		a := e.host(t, 1, eth0("10.0.0.1/24"))
		advance(1500 * time.Millisecond)
		if got, want := a.news(), "found 10.0.0.5:5"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got, want := a.mdns.Stats(), (Stats{Questions: 2, Malformed: 3}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

func TestCandidatesBeyondTheBoundAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := ether{replies: func(family) []reply {
			var flood []reply
			for n := range maxCandidates + 5 {
				id := nodeEncoding.EncodeToString([]byte{byte(n >> 8), byte(n), 15: 0})
				flood = append(flood, reply{id + instanceTail, encodeTXT(Advert{Node: id, Port: 5}, [][]netip.Addr{addrs("10.0.0.5")})})
			}
			return flood
		}}
		a := e.host(t, 1, eth0("10.0.0.1/24"))
		advance(1500 * time.Millisecond)
		if len(a.events) != maxCandidates || a.mdns.Stats().Refused != 5 {
			t.Errorf("%d found, %d refused; want %d and 5", len(a.events), a.mdns.Stats().Refused, maxCandidates)
		}
	})
}

func TestEachInterfaceIsAskedOverEachFamily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e ether
		e.host(t, 1, eth0("10.0.0.1/24", "fe80::1/64"), iface(3, "eth1", usual, "10.1.0.1/24"), iface(4, "eth2", usual, "fe80::2/64"))
		advance(300 * time.Millisecond)
		if e.asked != 4 {
			t.Errorf("%d questions in the first round, want 4", e.asked)
		}
	})
}

func TestRunEndsAtTheLatestWhenTheQuestionIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e ether
		a := e.host(t, 1, eth0("10.0.0.1/24"))
		advance(200 * time.Millisecond) // a question is out
		start := time.Now()
		a.stop()
		if took := time.Since(start); took > askTime {
			t.Errorf("took %v, want at most %v", took, askTime)
		}
		if got := a.news(); got != "" {
			t.Errorf("told %q at the end", got)
		}
	})
}

func TestASecondRunIsRefusedAndALaterOneWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e ether
		a := e.idle(1, eth0("10.0.0.1/24"))
		e.host(t, 2, eth0("10.0.0.2/24"))
		for range 2 {
			a.start(t)
			advance(3 * time.Second)
			if err := a.mdns.Run(t.Context()); !errors.Is(err, errRunning) {
				t.Errorf("a second Run returned %v", err)
			}
			if got, want := a.news(), "found 10.0.0.2:4002"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			a.stop()
		}
	})
}

func TestTheZeroConfigRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e ether
		a := e.idle(1, eth0("10.0.0.1/24"))
		a.mdns = NewMDNS(MDNSConfig{Interfaces: a.mdns.config.Interfaces})
		a.mdns.lan = a
		e.host(t, 2, eth0("10.0.0.2/24"))
		a.start(t)
		advance(time.Minute)
	})
}
