package reference

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/wire"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newMesh(t *testing.T) *identity.Mesh {
	t.Helper()
	m, err := identity.NewMesh(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func credentials(t *testing.T, m *identity.Mesh) *identity.Credentials {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	c, err := identity.NewCredentials(m, key, identity.Claims{Namespace: "bench", Name: "reference"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// carriers are all that have streams.
var carriers = []Carrier{QUIC, TLS}

func listen(t *testing.T, carrier Carrier, m *identity.Mesh) string {
	t.Helper()
	s, err := Listen(carrier, credentials(t, m), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close server: %v", err)
		}
	})
	return s.Addr().String()
}

func dial(t *testing.T, carrier Carrier, m *identity.Mesh, servers ...string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), carrier, credentials(t, m), servers...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close client: %v", err)
		}
	})
	return c
}

// over runs a test with a client of one server, over every carrier.
func over(t *testing.T, test func(*testing.T, *Client)) {
	for _, carrier := range carriers {
		t.Run(string(carrier), func(t *testing.T) {
			m := newMesh(t)
			test(t, dial(t, carrier, m, listen(t, carrier, m)))
		})
	}
}

// upTo lets a push send so many messages.
func upTo(n int) func(int) int { return func(sent int) int { return n - sent } }

func TestPushIsParsedToTheLastRecord(t *testing.T) {
	over(t, func(t *testing.T, c *Client) {
		for _, size := range []int{0, 1, 100, 4000, MaxBody} {
			for _, count := range []int{0, 1, 300} {
				sent, err := c.Push(t.Context(), make([]byte, size), upTo(count))
				if err != nil || sent != count {
					t.Errorf("%d messages of %d bytes: sent %d, %v", count, size, sent, err)
				}
			}
		}
	})
}

func TestPushReachesEveryServer(t *testing.T) {
	for _, carrier := range carriers {
		t.Run(string(carrier), func(t *testing.T) {
			m := newMesh(t)
			c := dial(t, carrier, m, listen(t, carrier, m), listen(t, carrier, m), listen(t, carrier, m))
			if sent, err := c.Push(t.Context(), make([]byte, 100), upTo(5000)); err != nil || sent != 5000 {
				t.Errorf("sent %d, %v", sent, err)
			}
		})
	}
}

func TestPushOfWhatDoesNotFitIsRefused(t *testing.T) {
	over(t, func(t *testing.T, c *Client) {
		if n, err := c.Push(t.Context(), make([]byte, MaxBody+1), upTo(1)); err == nil {
			t.Errorf("%d messages of %d bytes were sent", n, MaxBody+1)
		}
	})
}

func TestPushEndsWithItsContext(t *testing.T) {
	for _, carrier := range carriers {
		for _, servers := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s to %d", carrier, servers), func(t *testing.T) {
				m := newMesh(t)
				var to []string
				for range servers {
					to = append(to, listen(t, carrier, m))
				}
				c := dial(t, carrier, m, to...)
				ctx, cancel := context.WithCancel(t.Context())
				_, err := c.Push(ctx, make([]byte, 1000), func(sent int) int {
					if sent > 1000 {
						cancel()
					}
					return 100
				})
				if err == nil {
					t.Error("a push without end ended well")
				}
				if _, err := c.Push(t.Context(), nil, upTo(10)); err != nil {
					t.Errorf("the next push: %v", err)
				}
			})
		}
	}
}

func TestEchoBringsTheRequestBack(t *testing.T) {
	over(t, func(t *testing.T, c *Client) {
		e, err := c.Echo(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{1, 64, 100_000, 64} {
			if err := e.Do(bytes.Repeat([]byte{'x'}, size)); err != nil {
				t.Errorf("%d bytes: %v", size, err)
			}
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestEachCallerOfAMuxGetsItsOwnAnswer(t *testing.T) {
	over(t, func(t *testing.T, c *Client) {
		const callers = 50
		m, err := c.Mux(t.Context(), callers)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				for k := range 40 {
					request := bytes.Repeat([]byte{byte(i)}, 1+k*i*3)
					if answer, err := m.Do(i, request); err != nil || !bytes.Equal(answer, request) {
						t.Errorf("caller %d: %d bytes back of %d, %v", i, len(answer), len(request), err)
						return
					}
				}
			})
		}
		wg.Wait()
		if _, err := m.Do(0, make([]byte, MaxBody+1)); err == nil {
			t.Error("a request that is too long was sent")
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestRequestsFailWhenTheirContextEnds(t *testing.T) {
	over(t, func(t *testing.T, c *Client) {
		ctx, cancel := context.WithCancel(t.Context())
		m, err := c.Mux(ctx, 2)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Do(0, []byte("x")); err != nil {
			t.Fatal(err)
		}
		cancel()
		for err = nil; err == nil; { // what was under way may still come
			_, err = m.Do(1, []byte("x"))
		}
		_ = m.Close()
	})
}

func TestMuxTakesNoAnswerToWhatWasNotAsked(t *testing.T) {
	reply := func(seq uint64) []byte { return wire.AppendReply(nil, wire.Reply{Seq: seq, Outcome: wire.OK}) }
	for name, b := range map[string][]byte{
		"nobody's":      reply(2),
		"of request 0":  reply(0),
		"twice":         append(reply(1), reply(1)...),
		"another frame": wire.AppendEmpty(nil, wire.TypeBye),
		"damage":        wire.AppendText(nil, wire.TypeReply, "x"),
		"a huge frame":  {byte(wire.TypeReply), 0xff, 0xff, 0xff, 0x7f},
	} {
		m := &Mux{st: scripted{bytes.NewReader(b)}, waits: []chan []byte{make(chan []byte, 1)}}
		if err := m.readAll(); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: ended with %v", name, err)
		}
	}
}

// scripted is a stream of which only the reading side matters.
type scripted struct{ io.Reader }

func (scripted) Write(b []byte) (int, error) { return len(b), nil }
func (scripted) CloseWrite() error           { return nil }
func (scripted) Close() error                { return nil }

func TestOverUDPWhatArrivesIsCounted(t *testing.T) {
	s, err := ListenUDP("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := DialUDP(s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, size := range []int{0, 100, 5000, MaxDatagram} {
		arrived, err := c.Push(t.Context(), make([]byte, size), upTo(20))
		if err != nil || arrived > 20 || arrived == 0 {
			t.Errorf("20 messages of %d bytes: %d arrived, %v", size, arrived, err)
		}
		if err := c.Do(t.Context(), bytes.Repeat([]byte{'x'}, size)); err != nil {
			t.Errorf("request of %d bytes: %v", size, err)
		}
	}
	for _, junk := range []string{"", "d", "d2345678x", "q", "zzzzzzzzzz", "d\x02\xff\xff\xff\xff\x7fxxxx"} {
		if _, err := c.conn.Write([]byte(junk)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := c.Push(t.Context(), make([]byte, 100), upTo(1)); n != 1 || err != nil {
		t.Errorf("after junk %d messages arrived of 1, %v", n, err)
	}
	if _, err := c.Push(t.Context(), make([]byte, MaxDatagram+1), upTo(1)); err == nil {
		t.Error("a body that is too long was sent")
	}
	if err := c.Do(t.Context(), make([]byte, MaxDatagram+1)); err == nil {
		t.Error("a request that is too long was sent")
	}
}

func TestUDPThatIsNotAnsweredEndsWithItsContext(t *testing.T) {
	deaf, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	c, err := DialUDP(deaf.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { // the first question has come
		if _, _, err := deaf.ReadFrom(make([]byte, 100)); err == nil {
			cancel()
		}
	}()
	if err := c.Do(ctx, []byte("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

func TestStrangerIsTurnedAway(t *testing.T) {
	for _, carrier := range carriers {
		c, err := Dial(t.Context(), carrier, credentials(t, newMesh(t)), listen(t, carrier, newMesh(t)))
		if err == nil { // TLS dials for each stream
			if _, err := c.Push(t.Context(), nil, upTo(1)); err == nil {
				t.Errorf("%s: a client of another mesh was let in", carrier)
			}
			c.Close()
		}
	}
	if _, err := Dial(t.Context(), "pigeon", nil, ""); err == nil {
		t.Error("a carrier that there is not was dialled")
	}
	if _, err := Listen("pigeon", nil, ""); err == nil {
		t.Error("a carrier that there is not was listened on")
	}
}

func TestParseStopsAtDamage(t *testing.T) {
	records := 0
	count := func(wire.Run, wire.Record) error { records++; return nil }
	run, n := appendRun(nil, []byte("hello"), 3, wire.MaxRun)
	whole := wire.AppendData(nil, wire.Run{Base: 1, Attempt: 1}, run)
	if rest, err := parse(whole, count); err != nil || records != n || len(rest) != 0 {
		t.Fatalf("got %d records, %d bytes left, %v; want %d records", records, len(rest), err, n)
	}
	records = 0
	for cut := range whole {
		if rest, err := parse(whole[:cut], count); err != nil || records != 0 || len(rest) != cut {
			t.Errorf("cut to %d bytes: got %d records, %d bytes left, %v", cut, records, len(rest), err)
		}
	}
	whole[len(whole)-1] ^= 1
	if _, err := parse(whole, count); !errors.Is(err, wire.ErrChecksum) {
		t.Errorf("flipped bit: got %v, want %v", err, wire.ErrChecksum)
	}
	if _, err := parse(wire.AppendEmpty(nil, wire.TypeBye), count); err == nil {
		t.Error("a frame that is no DATA was taken")
	}
}
