package node_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/ranges"
	"peermesh/internal/wire"
	"peermesh/node"
	"peermesh/socket"

	"github.com/quic-go/quic-go"
)

const (
	codeBye      quic.ApplicationErrorCode = 0
	codeProtocol quic.ApplicationErrorCode = 1
	codeRefused  quic.ApplicationErrorCode = 16
)

// huge is a frame whose length claims 2^62 bytes.
func huge(t wire.Type) []byte {
	return []byte{byte(t), 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40}
}

// frame is one of any type and payload.
func frame(t wire.Type, payload ...byte) []byte {
	b := []byte{byte(t)}
	for n := len(payload); ; n >>= 7 {
		if n < 0x80 {
			return append(append(b, byte(n)), payload...)
		}
		b = append(b, byte(n)|0x80)
	}
}

// goroutines counts what runs in this process, by what it was started for.
func goroutines() map[string]int {
	buf := make([]byte, 8<<20)
	count := map[string]int{}
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if at := strings.LastIndex(g, "created by "); at >= 0 {
			first, _, _ := strings.Cut(g[strings.Index(g, "\n")+1:], "(0x")
			created, _, _ := strings.Cut(g[at:], " in goroutine")
			count[first+" "+created]++
		}
	}
	return count
}

// costsNothing asserts that f, in which a rogue comes and is cut off, leaves no
// goroutine behind.
func (s *scene) costsNothing(f func()) {
	s.Helper()
	synctest.Wait()
	before := goroutines()
	f()
	time.Sleep(10 * time.Second) // quic-go keeps closed connections for a moment
	synctest.Wait()
	for what, n := range goroutines() {
		if n > before[what] {
			s.Errorf("%d times %s, %d before", n, what, before[what])
		}
	}
}

func TestConnectionThatNeverSaysHelloIsCutAndCostsNothing(t *testing.T) {
	for name, said := range map[string]func(*rogue) []byte{
		"nothing":      nil,
		"half a HELLO": func(r *rogue) []byte { return wire.AppendHello(nil, r.myHello("r"))[:20] },
		"no WELCOME":   func(r *rogue) []byte { return wire.AppendHello(nil, r.myHello("r")) },
	} {
		t.Run(name, func(t *testing.T) {
			attack(t, func(t *testing.T, s *scene) {
				s.costsNothing(func() {
					r := s.rogue("r", lower) // so that the node waits for its WELCOME
					defer r.leave()
					began := time.Now()
					if r.dial(); said != nil {
						r.open(said(r))
					}
					s.works()
					if code, text := r.ended(); code != codeProtocol || text != "handshake: no answer" {
						t.Errorf("closed with %d %q", code, text)
					}
					if took := time.Since(began); took > 5*time.Second {
						t.Errorf("cut after %v, want twice the HandshakeTimeout", took)
					}
					if r.linked() {
						t.Error("linked")
					}
				})
			})
		})
	}
}

func TestHelloByteByByteIsCutInTime(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		r := s.rogue("r", anyhow).dial()
		began := time.Now()
		b := wire.AppendHello(nil, r.myHello("r"))
		for r.open(b[:1]); r.conn.Context().Err() == nil; time.Sleep(time.Second) {
			b = b[1:]
			r.say(b[:1])
		}
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("cut after %v", took)
		}
	})
}

func TestStreamWithoutAttachIsCutAndCostsNothing(t *testing.T) {
	for name, b := range map[string][]byte{
		"one byte":       {byte(wire.TypeAttach)},
		"half an ATTACH": frame(wire.TypeAttach, make([]byte, 100)...)[:40],
	} {
		t.Run(name, func(t *testing.T) {
			attack(t, func(t *testing.T, s *scene) {
				r := s.rogue("r", anyhow).link("r")
				r.echoes()
				s.costsNothing(func() {
					began := time.Now()
					st := r.stream(b)
					if said := r.cut(st); len(said) > 0 {
						t.Errorf("the node said %x", said)
					}
					if took := time.Since(began); took > 5*time.Second {
						t.Errorf("cut after %v, want twice the HandshakeTimeout", took)
					}
					st.CancelWrite(0)
				})
				if !r.linked() {
					t.Error("the link was cut too")
				}
			})
		})
	}
}

func TestPeerWhoseNodeNoLongerAnswersIsCut(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		r := s.rogue("r", anyhow).link("r")
		r.say(frame(wire.TypeOffer, make([]byte, 50)...)[:30]) // its QUIC goes on answering
		began := time.Now()
		if code, text := r.ended(); code != codeProtocol || !strings.Contains(text, "heartbeat") {
			t.Errorf("closed with %d %q", code, text)
		}
		if took := time.Since(began); took < 20*time.Second || took > 40*time.Second {
			t.Errorf("cut after %v, want some 30 s", took)
		}
		if e := s.last(r.id); e.State != node.Down || !strings.Contains(e.Reason, "heartbeat") {
			t.Errorf("event %+v", e)
		}
	})
}

func TestPeerThatAsksAndNeverAnswersIsCut(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		r := s.rogue("r", anyhow).link("r")
		var asking sync.WaitGroup
		asking.Go(func() { // the answers of the node, and the heartbeats that go along with them, are not read
			for n := uint64(0); r.conn.Context().Err() == nil; n++ {
				time.Sleep(time.Second)
				r.say(wire.AppendHeartbeat(nil, wire.Heartbeat{Number: n}))
			}
		})
		defer asking.Wait()
		began := time.Now()
		if code, text := r.ended(); code != codeProtocol || !strings.Contains(text, "no heartbeat answered") || strings.Contains(text, "protocol") {
			t.Errorf("closed with %d %q", code, text)
		}
		if took := time.Since(began); took < 20*time.Second || took > 40*time.Second {
			t.Errorf("cut after %v, want some 30 s", took)
		}
	})
}

func TestAHeartbeatGoesAlongWithTheAnswerToThePeers(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		r := s.rogue("r", anyhow).link("r")
		for n := range uint64(10) {
			time.Sleep(2 * time.Second)
			began := time.Now()
			r.say(wire.AppendHeartbeat(nil, wire.Heartbeat{Number: n}))
			for answered, asked := false, false; !asked; {
				typ, payload := r.hear()
				h, err := wire.ParseHeartbeat(payload)
				switch {
				case typ != wire.TypeHeartbeat:
				case err != nil:
					t.Fatal(err)
				case h.Echo:
					answered = true
				case !answered:
					t.Fatal("the node asked before it was asked")
				default:
					asked = true
					r.say(wire.AppendHeartbeat(nil, wire.Heartbeat{Number: h.Number, Echo: true}))
				}
			}
			if took := time.Since(began); took > 100*time.Millisecond {
				t.Errorf("the node asked %v after it was asked", took)
			}
		}
	})
}

func TestFrameThatIsNotHelloEndsTheHandshake(t *testing.T) {
	for name, b := range map[string][]byte{
		"OFFER":              wire.AppendOffer(nil, wire.Offer{Socket: 1, Kind: wire.Pull, Name: "jobs"}),
		"WELCOME":            wire.AppendWelcome(nil, wire.Welcome{}),
		"ATTACH":             frame(wire.TypeAttach, 1, 2, 3),
		"unknown":            frame(0x7f),
		"length 2^62":        huge(wire.TypeHello),
		"length of 4 MiB":    {byte(wire.TypeHello), 0x80, 0x80, 0x80, 0x02},
		"HELLO of nothing":   frame(wire.TypeHello),
		"HELLO of rubbish":   frame(wire.TypeHello, []byte(strings.Repeat("\xff", 200))...),
		"HELLO not in UTF-8": wire.AppendHello(nil, wire.Hello{Version: wire.Version, Namespace: "default", Name: "\xc3\x28"}),
		"REFUSED of rubbish": frame(wire.TypeRefused, 0xff),
	} {
		t.Run(name, func(t *testing.T) {
			attack(t, func(t *testing.T, s *scene) {
				r := s.rogue("r", anyhow).dial().open(b)
				if code, text := r.ended(); code != codeProtocol || !strings.HasPrefix(text, "handshake: protocol: ") || !printable(text) {
					t.Errorf("closed with %d %q", code, text)
				}
				if r.linked() {
					t.Error("linked")
				}
			})
		})
	}
}

func TestControlFrameThatNoHonestPeerSendsCutsTheLink(t *testing.T) {
	offer := func(o wire.Offer) []byte { return wire.AppendOffer(nil, o) }
	many := func(n int, f func(i int) []byte) (out []byte) {
		for i := range n {
			out = append(out, f(i)...)
		}
		return out
	}
	jobs := wire.Offer{Socket: 1, Kind: wire.Pull, Name: "jobs"}
	for name, b := range map[string][]byte{
		"length 2^62":            huge(wire.TypeOffer),
		"length of 4 MiB":        {byte(wire.TypeOffer), 0x80, 0x80, 0x80, 0x02},
		"length of eleven bytes": {byte(wire.TypeOffer), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"unknown type":           frame(0x0a),
		"type of pipes":          frame(wire.TypeData, 0, 1, 1, 0),
		"second HELLO":           wire.AppendHello(nil, wire.Hello{Version: wire.Version}),
		"second WELCOME":         wire.AppendWelcome(nil, wire.Welcome{}),
		"OFFER of rubbish":       frame(wire.TypeOffer, 0xff, 0xff),
		"OFFER of a sender":      frame(wire.TypeOffer, 1, byte(wire.Push), 1, 'a', 0),
		"OFFER twice":            many(2, func(int) []byte { return offer(jobs) }),
		"OFFER of a name twice":  many(2, func(i int) []byte { return offer(wire.Offer{Socket: uint64(i), Kind: wire.Pull, Name: "jobs"}) }),
		"OFFER without a name":   offer(wire.Offer{Socket: 1, Kind: wire.Pull}),
		"OFFER of ANSI":          offer(wire.Offer{Socket: 1, Kind: wire.Pull, Name: "\x1b[31mjobs"}),
		"OFFER of NUL":           offer(wire.Offer{Socket: 1, Kind: wire.Pull, Name: "jobs\x00"}),
		"OFFER of an ANSI label": offer(wire.Offer{Socket: 1, Kind: wire.Sub, Name: "jobs", Label: "\x1b[2J"}),
		"OFFER not in UTF-8":     frame(wire.TypeOffer, 1, byte(wire.Pull), 2, 0xc3, 0x28, 0),
		"5000 OFFERs": many(5000, func(i int) []byte {
			return offer(wire.Offer{Socket: uint64(i), Kind: wire.Pull, Name: fmt.Sprint("q", i)})
		}),
		"PEERS of rubbish":   frame(wire.TypePeers, 0xff, 0xff, 0xff),
		"PEERS of 300":       wire.AppendPeers(nil, make([]wire.Peer, 300)),
		"REFUSED of rubbish": frame(wire.TypeRefused, 1),
		"GOAWAY of rubbish":  frame(wire.TypeGoAway, 5, 'x'),
		"BYE without GOAWAY": wire.AppendEmpty(nil, wire.TypeBye),
		"BYE with something": frame(wire.TypeBye, 1),
		"HEARTBEAT of none":  frame(wire.TypeHeartbeat),
		"WITHDRAW of none":   frame(wire.TypeWithdraw),
	} {
		t.Run(name, func(t *testing.T) {
			attack(t, func(t *testing.T, s *scene) {
				if _, err := s.n.Push("jobs"); err != nil {
					t.Fatal(err)
				}
				r := s.rogue("r", anyhow).link("r")
				r.say(b)
				if code, text := r.ended(); code != codeProtocol || !strings.HasPrefix(text, "protocol: ") || !printable(text) {
					t.Errorf("closed with %d %q", code, text)
				}
				if e := s.last(r.id); e.State != node.Down || e.Reason == "" {
					t.Errorf("event %+v, want down with a reason", e)
				}
			})
		})
	}
}

func TestUselessControlFramesAreHarmless(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		r := s.rogue("r", anyhow).link("r").echoes()
		for _, b := range [][]byte{
			wire.AppendNumber(nil, wire.TypeWithdraw, 77),
			wire.AppendHeartbeat(nil, wire.Heartbeat{Number: 1 << 63, Echo: true}),
			wire.AppendOffer(nil, wire.Offer{Socket: 1<<64 - 1, Kind: wire.Pull, Name: "jobs"}),
			wire.AppendNumber(nil, wire.TypeWithdraw, 1<<64-1),
			wire.AppendOffer(nil, wire.Offer{Socket: 1<<64 - 1, Kind: wire.Pull, Name: "jobs"}),
			wire.AppendPeers(nil, nil),
			wire.AppendText(nil, wire.TypeGoAway, "\x1b[31mbye\x00"),
			wire.AppendText(nil, wire.TypeGoAway, "again"),
		} {
			r.say(b)
		}
		if !r.linked() {
			t.Errorf("the link ended: %+v", s.last(r.id))
		}
	})
}

func TestPeerThatDoesNotReadItsControlStreamIsCut(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		r := s.rogue("r", anyhow).link("r")
		beats := []byte(strings.Repeat(string(wire.AppendHeartbeat(nil, wire.Heartbeat{Number: 1})), 600))
		wrote := 0
		for {
			n, err := r.ctl.Write(beats)
			if wrote += n; err != nil {
				break
			}
			if wrote > 16<<20 {
				t.Fatalf("%d bytes of heartbeats, and still linked", wrote)
			}
		}
		if code, text := r.ended(); code != codeProtocol || !strings.Contains(text, "does not read") {
			t.Errorf("closed with %d %q", code, text)
		}
	})
}

func TestHeartbeatFloodIsAnswered(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		r := s.rogue("r", anyhow).link("r")
		const count = 20_000
		go func() {
			for i := range count {
				r.say(wire.AppendHeartbeat(nil, wire.Heartbeat{Number: uint64(i)}))
			}
		}()
		for i := 0; i < count; {
			if typ, payload := r.hear(); typ == wire.TypeHeartbeat {
				if h, err := wire.ParseHeartbeat(payload); err != nil {
					t.Fatal(err)
				} else if h.Echo {
					i++
				}
			}
		}
		if !r.linked() {
			t.Error("the link was cut")
		}
	})
}

func TestStreamFloodIsBoundedAndCut(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		r := s.rogue("r", anyhow).link("r").echoes()
		s.costsNothing(func() {
			var open []*quic.Stream
			for {
				st, err := r.conn.OpenStream()
				if err != nil {
					break // the node's limit
				}
				open = append(open, st)
				if _, err := st.Write([]byte{byte(wire.TypeAttach)}); err != nil {
					t.Fatal(err)
				}
				if len(open) > 4096 {
					t.Fatalf("%d streams", len(open))
				}
			}
			if len(open) != 4095 { // and the control stream
				t.Errorf("%d streams, want 4095", len(open))
			}
			s.works()
			for _, st := range open {
				r.cut(st)
				st.CancelWrite(0)
			}
		})
		st, err := r.conn.OpenStream()
		if err != nil {
			t.Fatalf("no stream after the flood: %v", err)
		}
		st.CancelWrite(0)
	})
}

func TestBadAttachIsRejectedWithItsReason(t *testing.T) {
	for name, c := range map[string]struct {
		code string
		edit func(*wire.Attach)
	}{
		"unknown socket":      {"no-socket", func(a *wire.Attach) { a.Socket = 99 }},
		"another name":        {"no-socket", func(a *wire.Attach) { a.Name = "other" }},
		"ANSI in the name":    {"no-socket", func(a *wire.Attach) { a.Name = "\x1b[31m\x00" }},
		"another kind":        {"no-socket", func(a *wire.Attach) { a.Kind = wire.Pub }},
		"another nonce":       {"identity", func(a *wire.Attach) { a.Nonce[0]++ }},
		"another incarnation": {"identity", func(a *wire.Attach) { a.Incarnation++ }},
	} {
		t.Run(name, func(t *testing.T) {
			attack(t, func(t *testing.T, s *scene) {
				r := s.rogue("r", anyhow).link("r")
				a := r.attach(r.hearOffer("echo"))
				c.edit(&a)
				st := r.stream(wire.AppendAttach(nil, a))
				typ, payload, err := socket.ReadFrame(st, 1<<10)
				if err != nil || typ != wire.TypeRejected {
					t.Fatalf("frame %#x, %v, want REJECTED", typ, err)
				}
				if j, err := wire.ParseRejected(payload); err != nil || j.Code != c.code || j.Reason == "" {
					t.Errorf("rejected with %+v, %v, want %s", j, err, c.code)
				}
				if !r.linked() {
					t.Error("the link was cut")
				}
				s.last(r.id)
			})
		})
	}
}

func TestStreamThatDoesNotBeginWithAttachIsCut(t *testing.T) {
	for name, b := range map[string][]byte{
		"DATA":              frame(wire.TypeData, 0, 1, 1, 0),
		"unknown":           frame(0x7f, 1),
		"ATTACH of nothing": frame(wire.TypeAttach),
		"ATTACH of 2 KiB":   frame(wire.TypeAttach, make([]byte, 2048)...),
		"length 2^62":       huge(wire.TypeAttach),
		"ATTACH of a Pull":  frame(wire.TypeAttach, append([]byte{1, byte(wire.Pull)}, make([]byte, 80)...)...),
	} {
		t.Run(name, func(t *testing.T) {
			attack(t, func(t *testing.T, s *scene) {
				r := s.rogue("r", anyhow).link("r").echoes()
				if said := r.cut(r.stream(b)); len(said) > 0 {
					t.Errorf("the node said %x", said)
				}
				if !r.linked() {
					t.Error("the link was cut")
				}
			})
		})
	}
}

// record is a message as it travels.
func record(delta uint64, body string) []byte {
	return wire.AppendRecord(nil, wire.Record{Delta: delta, Body: []byte(body)})
}

func TestPipeFrameThatNoHonestSenderSendsCutsThePipe(t *testing.T) {
	run := wire.Run{Base: 1, Attempt: 1}
	damaged := wire.AppendData(nil, run, record(0, "x"))
	damaged[len(damaged)-1]++
	var flood []byte
	for i := range uint64(2000) {
		flood = append(flood, wire.AppendData(nil, wire.Run{Base: 1 + i, Attempt: 1}, record(0, "x"))...)
	}
	for name, b := range map[string][]byte{
		"length 2^62":         huge(wire.TypeData),
		"unknown type":        frame(0x7f),
		"type of control":     wire.AppendHeartbeat(nil, wire.Heartbeat{Number: 1}),
		"ATTACH again":        frame(wire.TypeAttach, 1),
		"answer of receivers": wire.AppendRanges(nil, wire.TypeDone, wire.EditionRanges{Edition: 1}),
		"DATA of rubbish":     frame(wire.TypeData, 0xff, 0xff),
		"a damaged record":    damaged,
		"seq 0":               wire.AppendData(nil, wire.Run{Attempt: 1}, record(0, "x")),
		"seq that overflows":  wire.AppendData(nil, wire.Run{Base: 1<<64 - 1, Attempt: 1}, record(2, "x")),
		"beyond the window":   flood,
		"FRAGMENT unasked":    wire.AppendFragment(nil, wire.Fragment{Run: run, Total: 1 << 20, Part: []byte("x")}),
		"RENEWED of nothing":  wire.AppendNumber(nil, wire.TypeRenewed, 1<<64-1),
		"GAP that overflows":  frame(wire.TypeGap, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 5, 1),
		"CONFIRM of rubbish":  frame(wire.TypeConfirm, 1, 2, 3),
	} {
		t.Run(name, func(t *testing.T) {
			attack(t, func(t *testing.T, s *scene) {
				jobs, err := s.n.Pull("jobs")
				if err != nil {
					t.Fatal(err)
				}
				r := s.rogue("r", anyhow).link("r")
				st, _ := r.pipe("jobs")
				r.echoes()
				st.Write(b)
				r.cut(st)
				if !r.linked() {
					t.Error("the link was cut")
				}
				if st := jobs.Stats(); st.Pipes != 0 {
					t.Errorf("%+v, want no pipe", st)
				}
				// The queue goes on for others.
				push, err := s.honest.Push("jobs")
				if err != nil {
					t.Fatal(err)
				}
				if err := push.Send(within(t, time.Second), []byte("honest")); err != nil {
					t.Fatal(err)
				}
				for {
					m, err := jobs.Recv(within(t, 10*time.Second))
					if err != nil {
						t.Fatal(err)
					}
					m.Ack()
					if m.From() == s.honest.ID() {
						break
					}
				}
			})
		})
	}
}

func TestForgedConfirmationsAndHugeSeqsHarmNobodyElse(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		jobs, err := s.n.Pull("jobs")
		if err != nil {
			t.Fatal(err)
		}
		push, err := s.honest.Push("jobs")
		if err != nil {
			t.Fatal(err)
		}
		r := s.rogue("r", anyhow).link("r")
		st, _ := r.pipe("jobs")
		r.echoes()
		all := []ranges.Range{{From: 0, To: 1<<64 - 1}}
		for edition := range uint64(3) {
			st.Write(wire.AppendRanges(nil, wire.TypeConfirm, wire.EditionRanges{Edition: edition, Ranges: all}))
		}
		st.Write(wire.AppendRevoke(nil, all))
		st.Write(wire.AppendGap(nil, wire.Gap{From: 1, To: 1<<64 - 1, Reason: wire.GapDropped}))
		st.Write(wire.AppendData(nil, wire.Run{Base: 1<<64 - 1, Attempt: 1<<64 - 1, Age: 1 << 62}, record(0, "the last one")))
		const count = 50
		for i := range count {
			if err := push.Send(within(t, time.Second), fmt.Append(nil, i)); err != nil {
				t.Fatal(err)
			}
		}
		got := map[string]int{}
		for range count + 1 {
			m, err := jobs.Recv(within(t, 10*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			got[string(m.Body)]++
			m.Ack()
		}
		for i := range count {
			if got[fmt.Sprint(i)] != 1 {
				t.Errorf("message %d of the honest sender came %d times", i, got[fmt.Sprint(i)])
			}
		}
		if err := push.Flush(within(t, 10*time.Second)); err != nil {
			t.Error(err)
		}
		if l := push.Stats().Ledger; l.Done != count || !l.Balanced() {
			t.Errorf("ledger %+v", l)
		}
	})
}

// receiver makes the rogue one: it offers a socket and takes the pipe the node opens.
func (r *rogue) receiver(o wire.Offer, answer func(wire.Attach) wire.Attached) *quic.Stream {
	r.s.Helper()
	r.say(wire.AppendOffer(nil, o))
	st, err := r.conn.AcceptStream(within(r.s, 10*time.Second))
	if err != nil {
		r.s.Fatal(err)
	}
	t, payload, err := socket.ReadFrame(st, 1<<10)
	if err != nil || t != wire.TypeAttach {
		r.s.Fatalf("frame %#x, %v, want ATTACH", t, err)
	}
	a, err := wire.ParseAttach(payload)
	if err != nil {
		r.s.Fatal(err)
	}
	if _, err := st.Write(wire.AppendAttached(nil, answer(a))); err != nil {
		r.s.Fatal(err)
	}
	return st
}

func TestAnswerThatNoHonestReceiverGivesCutsThePipe(t *testing.T) {
	say := func(b []byte) func(wire.Attach) []byte { return func(wire.Attach) []byte { return b } }
	one := []ranges.Range{{From: 1, To: 1}}
	done := func(a wire.Attach) []byte {
		return wire.AppendRanges(nil, wire.TypeDone, wire.EditionRanges{Edition: a.Edition, Ranges: one})
	}
	reply := func(r wire.Reply) func(wire.Attach) []byte {
		return func(a wire.Attach) []byte {
			r.Edition, r.Outcome = a.Edition, wire.OK
			return wire.AppendReply(nil, r)
		}
	}
	for name, c := range map[string]struct {
		kind wire.Kind
		edit func(*wire.Attached) // nil: an honest one
		then func(wire.Attach) []byte
	}{
		"length 2^62":     {wire.Pull, nil, say(huge(wire.TypeDone))},
		"unknown type":    {wire.Pull, nil, say(frame(0x7f))},
		"ATTACHED twice":  {wire.Pull, nil, say(wire.AppendAttached(nil, wire.Attached{Number: 1}))},
		"DONE unsent":     {wire.Pull, nil, done},
		"DONE by a Rep":   {wire.Rep, nil, done},
		"DONE of rubbish": {wire.Pull, nil, say(frame(wire.TypeDone, 1))},
		"NACK unsent": {wire.Pull, nil, func(a wire.Attach) []byte {
			return wire.AppendNack(nil, wire.Nack{Reason: wire.NackHandler, Edition: a.Edition, Ranges: one})
		}},
		"NACK of rubbish":    {wire.Pull, nil, say(frame(wire.TypeNack, 99))},
		"GRANT unasked":      {wire.Pull, nil, say(wire.AppendNumber(nil, wire.TypeGrant, 1))},
		"DATA":               {wire.Pull, nil, say(wire.AppendData(nil, wire.Run{Base: 1}, record(0, "x")))},
		"another process":    {wire.Pull, func(a *wire.Attached) { a.Nonce[0]++ }, say(nil)},
		"another ATTACH":     {wire.Pull, func(a *wire.Attached) { a.Number += 7 }, say(nil)},
		"REPLY to a Push":    {wire.Pull, nil, reply(wire.Reply{Seq: 1, Total: 1, Part: []byte("x")})},
		"REPLY unasked":      {wire.Rep, nil, reply(wire.Reply{Seq: 1, Total: 1, Part: []byte("x")})},
		"REPLY of 64 MiB":    {wire.Rep, nil, reply(wire.Reply{Seq: 1, Total: wire.MaxMessage})},
		"REPLY of rubbish":   {wire.Rep, nil, say(frame(wire.TypeReply, 1))},
		"REPLY from midway":  {wire.Rep, nil, reply(wire.Reply{Seq: 1, Total: 2, Offset: 1, Part: []byte("x")})},
		"a bad pattern":      {wire.Sub, nil, say(wire.AppendSubscribe(nil, wire.Subscription{Version: 2, Patterns: []string{"a..b"}}))},
		"patterns of binary": {wire.Sub, func(a *wire.Attached) { a.Patterns = []string{"\x00\x1b["} }, say(nil)},
	} {
		t.Run(name, func(t *testing.T) {
			attack(t, func(t *testing.T, s *scene) {
				r := s.rogue("r", anyhow).link("r")
				var err error
				switch c.kind {
				case wire.Pull:
					_, err = s.n.Push("x")
				case wire.Rep:
					_, err = s.n.Req("x")
				case wire.Sub:
					_, err = s.n.Pub("x")
				}
				if err != nil {
					t.Fatal(err)
				}
				var attach wire.Attach
				st := r.receiver(wire.Offer{Socket: 1, Kind: c.kind, Name: "x"}, func(a wire.Attach) wire.Attached {
					attach = a
					out := wire.Attached{Number: a.Number, Store: r.nonce, Nonce: r.nonce, Version: 1}
					if c.edit != nil {
						c.edit(&out)
					}
					return out
				})
				r.echoes()
				st.Write(c.then(attach))
				r.cut(st)
				if !r.linked() {
					t.Error("the link was cut")
				}
			})
		})
	}
}

func TestReceiverThatLiesLosesNothingOfOthers(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		jobs, err := s.n.Push("jobs")
		if err != nil {
			t.Fatal(err)
		}
		r := s.rogue("r", anyhow).link("r")
		st := r.receiver(wire.Offer{Socket: 1, Kind: wire.Pull, Name: "jobs"}, func(a wire.Attach) wire.Attached {
			return wire.Attached{Number: a.Number, Store: r.nonce, Nonce: r.nonce, Messages: 1<<64 - 1, Bytes: 1<<64 - 1}
		})
		r.echoes()
		const count = 100
		for i := range count {
			if err := jobs.Send(within(t, time.Second), fmt.Append(nil, i)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait() // it hoards them all
		st.Write(wire.AppendCredit(nil, wire.Credit{}))
		all := []ranges.Range{{From: 1, To: 1 << 40}}
		st.Write(wire.AppendRanges(nil, wire.TypeDone, wire.EditionRanges{Edition: 77, Ranges: all}))
		st.Write(wire.AppendNack(nil, wire.Nack{Reason: wire.NackHandler, Edition: 77, Ranges: all, Text: "\x1b[31m"}))
		st.Write(wire.AppendNumber(nil, wire.TypeRenew, 1<<64-1))
		work, err := s.honest.Pull("jobs")
		if err != nil {
			t.Fatal(err)
		}
		r.conn.CloseWithError(codeProtocol, "\x1b[31m\x00 bye")
		got := map[string]bool{}
		for len(got) < count {
			m, err := work.Recv(within(t, time.Minute))
			if err != nil {
				t.Fatalf("%d of %d came: %v", len(got), count, err)
			}
			got[string(m.Body)] = true
			m.Ack()
		}
		if err := jobs.Flush(within(t, 10*time.Second)); err != nil {
			t.Error(err)
		}
		if l := jobs.Stats().Ledger; l.Done != count || !l.Balanced() {
			t.Errorf("ledger %+v", l)
		}
		s.last(r.id)
	})
}
