package zmtp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// greeting is that of a peer.
func greeting(major, minor byte, mechanism string) []byte {
	b := make([]byte, greetingSize)
	b[0], b[9], b[10], b[11] = 0xff, 0x7f, major, minor
	copy(b[12:32], mechanism)
	return b
}

func readyOf(properties ...property) []byte {
	var data []byte
	for _, p := range properties {
		data = appendProperty(data, p)
	}
	return appendCommand(nil, cmdReady, data)
}

// A script is a connection on which the peer says what it has to say, and hears nothing.
type script struct {
	io.Reader
	net.Conn
	said bytes.Buffer
}

func (s *script) Read(b []byte) (int, error)       { return s.Reader.Read(b) }
func (s *script) Write(b []byte) (int, error)      { return s.said.Write(b) }
func (s *script) Close() error                     { return nil }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

func says(b ...[]byte) *script { return &script{Reader: bytes.NewReader(slices.Concat(b...))} }

func TestWhoDoesNotSpeakZMTPIsToldAndRefused(t *testing.T) {
	good := greeting(3, 1, "NULL")
	push := property{"Socket-Type", "PUSH"}
	for _, c := range []struct {
		name, want string
		said       [][]byte
	}{
		{"a web browser", "not ZMTP", [][]byte{[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")}},
		{"version 2", "before 3", [][]byte{greeting(1, 0, "")}},
		{"another mechanism", `"CURVE"`, [][]byte{greeting(3, 1, "CURVE")}},
		{"half a greeting", "unexpected EOF", [][]byte{good[:40]}},
		{"a huge READY", "too large", [][]byte{good, {flagCommand | flagLong, 0x40, 0, 0, 0, 0, 0, 0, 0}}},
		{"reserved bits", "reserved bits", [][]byte{good, {0xf4, 0}}},
		{"a message before READY", "before READY", [][]byte{good, appendFrame(nil, 0, []byte("hi"))}},
		{"PING before READY", "PING before READY", [][]byte{good, appendPing(nil, 0, nil)}},
		{"metadata cut off", "metadata cut off", [][]byte{good, appendCommand(nil, cmdReady, []byte("\x0bSocket-Type"))}},
		{"a property longer than its frame", "a property of", [][]byte{good, appendCommand(nil, cmdReady, []byte("\x01a\xff\xff\xff\xff"))}},
		{"a nameless property", "metadata cut off", [][]byte{good, appendCommand(nil, cmdReady, []byte("\x00\x00\x00\x00\x00"))}},
		{"no type", "cannot speak", [][]byte{good, readyOf()}},
		{"a type that nobody knows", "cannot speak", [][]byte{good, readyOf(property{"Socket-Type", "SPY"})}},
		{"a type that does not fit", "cannot speak", [][]byte{good, readyOf(property{"Socket-Type", "SUB"})}},
		{"a long identity", "identity of 256", [][]byte{good, readyOf(push, property{"Identity", strings.Repeat("x", 256)})}},
		{"an identity of ours", "begins with zero", [][]byte{good, readyOf(push, property{"Identity", "\x001"})}},
		{"an ERROR", `"\x04nope"`, [][]byte{good, appendCommand(nil, cmdError, []byte("\x04nope"))}},
	} {
		s := says(c.said...)
		_, err := open(s, PULL, "", true, time.Second)
		if !errors.Is(err, errHandshake) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
		if c.want == "cannot speak" && !bytes.Contains(s.said.Bytes(), []byte("\x05ERROR")) {
			t.Errorf("%s: the peer was not told: %q", c.name, s.said.Bytes())
		}
	}
}

func TestAHandshakeSpeaks31AndReadsAnyCase(t *testing.T) {
	s := says(greeting(4, 0, "NULL"), readyOf(property{"SOCKET-type", "PUSH"}, property{"identity", "me"}, property{"X-mood", "good"}))
	peer, err := open(s, PULL, "us", true, time.Second)
	if want := (hello{minor: 1, kind: PUSH, identity: "me"}); err != nil || peer != want {
		t.Errorf("got %+v, %v; want %+v", peer, err, want)
	}
	if b := s.said.Bytes(); b[10] != 3 || b[minorAt] != 1 {
		t.Errorf("we say version %d.%d", b[10], b[minorAt])
	}
}

func FuzzHandshake(f *testing.F) {
	f.Add(append(greeting(3, 0, "NULL"), readyOf(property{"Socket-Type", "PUSH"})...))
	f.Add(append(greeting(3, 1, "NULL"), appendCommand(nil, cmdError, []byte("\x01x"))...))
	f.Add(append(greeting(3, 1, "NULL"), appendCommand(nil, cmdReady, []byte("\x0bSocket-Type\x00\x00"))...))
	f.Fuzz(func(t *testing.T, b []byte) {
		peer, err := open(says(b), PULL, "", true, time.Second)
		if err == nil && peer.kind != PUSH {
			t.Errorf("%q is let in", peer.kind)
		}
	})
}

// dribble gives what it has in pieces.
type dribble struct {
	rest  []byte
	sizes []byte
}

func (d *dribble) Read(b []byte) (int, error) {
	if len(d.rest) == 0 {
		return 0, io.EOF
	}
	n := len(d.rest)
	if len(d.sizes) > 0 {
		n, d.sizes = 1+int(d.sizes[0]), d.sizes[1:]
	}
	n = copy(b, d.rest[:min(n, len(d.rest))])
	d.rest = d.rest[n:]
	return n, nil
}

// readAll reads to the end and shows what came, in order.
func readAll(r *reader) (got []string, err error) {
	for err == nil {
		err = r.read(func(ms []message) error {
			for _, m := range ms {
				got = append(got, strings.Join(texts(m), "|"))
			}
			return nil
		}, func(c command) error {
			got = append(got, "/"+c.name)
			return nil
		})
	}
	return got, err
}

func TestAReaderCutsAStreamIntoMessagesHoweverItComes(t *testing.T) {
	long := strings.Repeat("x", 200_000)
	var wire []byte
	for _, parts := range [][]string{{"a"}, {"", "b"}, {long}, {"c", long, ""}, {""}} {
		wire = appendMessage(wire, raw(parts))
		wire = appendPing(wire, 0, nil)
	}
	want := []string{"a", "/PING", "|b", "/PING", long, "/PING", "c|" + long + "|", "/PING", "", "/PING"}
	for _, sizes := range [][]byte{nil, make([]byte, 1000), bytes.Repeat([]byte{6}, 5000), bytes.Repeat([]byte{255}, 500)} {
		got, err := readAll(newReader(&dribble{slices.Clone(wire), sizes}, 1<<20, 10))
		if !errors.Is(err, io.EOF) || !slices.Equal(got, want) {
			t.Errorf("got %.40q, %v; want %.40q", got, err, want)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add(appendPing(appendMessage(nil, raw([]string{"a", "b"})), 0, nil), []byte{0, 1, 2})
	f.Add(unhex(f, "03 0000000000000100"), []byte{})
	f.Add(unhex(f, "01 00 04 05 04 50494e47"), []byte{3})
	f.Fuzz(func(t *testing.T, wire, sizes []byte) {
		whole, werr := readAll(newReader(&dribble{rest: slices.Clone(wire)}, 1000, 5))
		pieces, perr := readAll(newReader(&dribble{slices.Clone(wire), sizes}, 1000, 5))
		if !slices.Equal(whole, pieces) || werr.Error() != perr.Error() {
			t.Fatalf("at once: %q, %v; in pieces: %q, %v", whole, werr, pieces, perr)
		}
	})
}

func TestAReaderGrowsWithWhatHasComeNotWithWhatIsClaimed(t *testing.T) {
	r := newReader(&dribble{rest: append(unhex(t, "02 0000000004000000"), make([]byte, 100_000)...)}, 1<<26, 10)
	if _, err := readAll(r); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if len(r.chunk) > 1<<19 {
		t.Errorf("%d bytes for 100,000 that came", len(r.chunk))
	}
}

func TestAMessageIsBoundedInBytesAndParts(t *testing.T) {
	for _, c := range []struct {
		parts []string
		want  error
	}{
		{[]string{strings.Repeat("x", 1001)}, errTooLarge},
		{[]string{strings.Repeat("x", 600), strings.Repeat("x", 600)}, errTooLarge},
		{slices.Repeat([]string{""}, 6), errParts},
		{slices.Repeat([]string{""}, 5), io.EOF},
		{[]string{strings.Repeat("x", 600), strings.Repeat("x", 400)}, io.EOF},
	} {
		if _, err := readAll(newReader(bytes.NewReader(appendMessage(nil, raw(c.parts))), 1000, 5)); !errors.Is(err, c.want) {
			t.Errorf("%d parts: got %v, want %v", len(c.parts), err, c.want)
		}
	}
}

// talk runs a connection over memory; the test is the peer.
func talk(t *testing.T, e Endpoint, minor byte, f func(h *hub, c *conn, peer net.Conn)) error {
	e.Bind, e.Name = "ipc:///nowhere", "name"
	e, err := e.settle()
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	h := newHub(e)
	c, err := h.attach(ours, hello{minor: minor, kind: peersOf[e.Type][0]}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.run(t.Context()) }()
	f(h, c, theirs)
	err = <-ended
	h.detach(c)
	return errors.Join(err, theirs.Close())
}

func hear(t *testing.T, from io.Reader, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(from, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("got %q, %v; want %q", got, err, want)
	}
}

func ping(n uint64) []byte { return appendPing(nil, 0, binary.BigEndian.AppendUint64(nil, n)) }

func TestAQuietPeerIsPingedAndASilentOneIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		err := talk(t, Endpoint{Type: PULL}, 1, func(_ *hub, _ *conn, peer net.Conn) {
			for n := range uint64(3) { // it answers three
				hear(t, peer, ping(n+1))
				if _, err := peer.Write(appendCommand(nil, cmdPong, binary.BigEndian.AppendUint64(nil, n+1))); err != nil {
					t.Error(err)
				}
			}
			hear(t, peer, ping(4))
		})
		if !errors.Is(err, errSilent) {
			t.Errorf("got %v", err)
		}
		if got := time.Since(begun); got < 3*DefaultHeartbeat+DefaultHeartbeatTimeout || got > 4*DefaultHeartbeat+2*DefaultHeartbeatTimeout {
			t.Errorf("gone after %v", got)
		}
	})
}

func TestAPeerThatOwesMessagesMayBeSilentUnlessOwedTimeoutSaysOtherwise(t *testing.T) {
	for _, limit := range []time.Duration{0, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			var fates []fate
			err := talk(t, Endpoint{Type: PUSH, OwedTimeout: limit}, 1, func(h *hub, c *conn, peer net.Conn) {
				o := outgoing{message: message{[]byte("x")}, bytes: 1, settle: func(f fate) { fates = append(fates, f) }}
				if _, err := h.assign(t.Context(), []outgoing{o}, true); err != nil {
					t.Fatal(err)
				}
				hear(t, peer, append(appendFrame(nil, 0, []byte("x")), ping(1)...))
				time.Sleep(time.Hour)
				if limit == 0 {
					if h.snapshot().Owed != 1 {
						t.Errorf("after an hour: %+v", h.snapshot())
					}
					c.end(io.EOF)
				}
			})
			if want := map[bool]error{true: io.EOF, false: errSilent}[limit == 0]; !errors.Is(err, want) {
				t.Errorf("limit %v: got %v, want %v", limit, err, want)
			}
			if !slices.Equal(fates, []fate{doubtful}) {
				t.Errorf("limit %v: the message is %v", limit, fates)
			}
		})
	}
}

func TestAMessageIsHandedOverWhenThePingBehindItIsAnswered(t *testing.T) {
	for _, c := range []struct {
		profile Profile
		minor   byte
		atOnce  bool
	}{{Durable, 1, false}, {Durable, 0, true}, {Classic, 1, true}} {
		synctest.Test(t, func(t *testing.T) {
			var got fate
			_ = talk(t, Endpoint{Type: PUSH, Profile: c.profile}, c.minor, func(h *hub, conn *conn, peer net.Conn) { // it ends by us
				o := outgoing{message: message{[]byte("x")}, bytes: 1, settle: func(f fate) { got = f }}
				if _, err := h.assign(t.Context(), []outgoing{o}, true); err != nil {
					t.Fatal(err)
				}
				hear(t, peer, appendFrame(nil, 0, []byte("x")))
				synctest.Wait()
				if c.atOnce != (got == handed) {
					t.Errorf("%v, 3.%d: written, it is %v", c.profile, c.minor, got)
				}
				if !c.atOnce {
					hear(t, peer, ping(1))
					for _, n := range []uint64{2, 1} { // the first is no answer to anything
						if got == handed {
							t.Error("an answer to no PING counts")
						}
						if _, err := peer.Write(appendCommand(nil, cmdPong, binary.BigEndian.AppendUint64(nil, n))); err != nil {
							t.Error(err)
						}
						synctest.Wait()
					}
				}
				if got != handed {
					t.Errorf("%v, 3.%d: at last it is %v", c.profile, c.minor, got)
				}
				conn.end(io.EOF)
			})
		})
	}
}

func TestAPingIsAnsweredWithItsContextAndItsTimeToLiveHeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		err := talk(t, Endpoint{Type: PULL, Heartbeat: -1}, 1, func(_ *hub, _ *conn, peer net.Conn) {
			if _, err := peer.Write(appendPing(nil, 70, []byte("context of 20 bytes."))); err != nil {
				t.Error(err)
			}
			hear(t, peer, appendCommand(nil, cmdPong, []byte("context of 20 by")))
		})
		if got := time.Since(begun); !errors.Is(err, errSilent) || got < 7*time.Second || got > 8*time.Second {
			t.Errorf("got %v after %v, want silence after 7 s", err, got)
		}
	})
}

func TestAFloodOfPingsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_ = talk(t, Endpoint{Type: PULL}, 1, func(h *hub, c *conn, peer net.Conn) { // it ends by us
			written := make(chan int, 1)
			go func() {
				n := 0
				for ; n < 1000; n++ { // and hears no answer
					if _, err := peer.Write(appendPing(nil, 0, nil)); err != nil {
						break
					}
				}
				written <- n
			}()
			synctest.Wait()
			h.mu.Lock()
			waiting := len(c.control)
			h.mu.Unlock()
			if waiting > maxPongs*32 {
				t.Errorf("%d bytes of answers wait", waiting)
			}
			c.end(io.EOF)
			if n := <-written; n > 3*maxPongs {
				t.Errorf("%d were read", n)
			}
		})
	})
}

func TestASilentClientDoesNotKeepOthersOut(t *testing.T) {
	l := begin(t, Endpoint{Type: PULL, HandshakeTimeout: 3 * time.Second}) // the one that speaks has as long
	for range 20 {
		nc, err := net.Dial("unix", strings.TrimPrefix(l.b.Addr(0), "ipc://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = nc.Close() }() // the bridge has done so first
	}
	l.peer(PUSH, "").send("x")
	l.received(l.pull().Recv, 1)
	l.await("they are refused", func(s Stats) bool { return s.Refused == 20 })
}

func TestMorePeersThanAllowedWait(t *testing.T) {
	l := begin(t, Endpoint{Type: PULL, MaxPeers: 1})
	first := l.peer(PUSH, "")
	nc, err := net.Dial("unix", strings.TrimPrefix(l.b.Addr(0), "ipc://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }() // at the end
	done := make(chan error, 1)
	go func() {
		_, err := open(nc, PUSH, "", false, patience)
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("the second is let in: %v", err)
	case <-time.After(quiet):
	}
	first.leave()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWhatAnEndpointCannotBeIsSaid(t *testing.T) {
	for _, c := range []struct {
		e    Endpoint
		want string
	}{
		{Endpoint{Type: PULL}, "binds or connects"},
		{Endpoint{Type: PULL, Bind: "udp://127.0.0.1:1"}, "neither tcp"},
		{Endpoint{Type: PULL, Bind: "tcp://127.0.0.1"}, "missing port"},
		{Endpoint{Type: "PAIR", Bind: "tcp://127.0.0.1:0"}, `no type "PAIR"`},
		{Endpoint{Type: PULL, Bind: "tcp://*:5555"}, "not of this machine"},
		{Endpoint{Type: PULL, Bind: "tcp://127.0.0.1:0", Connect: "tcp://10.0.0.1:5555"}, "not of this machine"},
		{Endpoint{Type: PULL, Bind: "tcp://127.0.0.1:0", Topics: []string{"a"}}, "topics are for"},
		{Endpoint{Type: PUB, Bind: "tcp://127.0.0.1:0", Upstream: "a"}, "an upstream is for"},
		{Endpoint{Type: REQ, Bind: "tcp://127.0.0.1:0", ErrorReply: func(error) [][]byte { return nil }}, "an error reply is for"},
		{Endpoint{Type: REQ, Bind: "tcp://127.0.0.1:0", Identity: "\x00"}, "no zero first"},
		{Endpoint{Type: REQ, Bind: "tcp://127.0.0.1:0", Queue: -1}, "a bound of -1"},
		{Endpoint{Type: REQ, Bind: "tcp://127.0.0.1:0", MaxMessage: -1}, "messages of -1 bytes"},
		{Endpoint{Type: REQ, Bind: "tcp://127.0.0.1:0", MaxParts: 1 << 20}, "in 1048576 parts"},
		{Endpoint{Type: REQ, Bind: "tcp://127.0.0.1:0", HandshakeRate: 1 << 30}, "at most 1000000"},
	} {
		if _, err := c.e.settle(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, want %q", c.e, err, c.want)
		}
	}
	if _, err := (Endpoint{Type: PULL, Bind: "tcp://*:5555", Public: true}).settle(); err != nil {
		t.Error(err)
	}
}
