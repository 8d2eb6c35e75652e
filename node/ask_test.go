package node_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/wire"
	"peermesh/node"
	"peermesh/node/meshtest"
	"peermesh/socket"
)

// bubble runs f with a mesh in a synctest bubble.
func bubble(t *testing.T, f func(t *testing.T, m *meshtest.Mesh)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f(t, meshtest.New(t, meshtest.Config{Seed: 1, Link: meshtest.Link{Delay: time.Millisecond}}))
	})
}

func TestAPeerTellsWhatItSeesOfAName(t *testing.T) {
	bubble(t, func(t *testing.T, m *meshtest.Mesh) {
		a, b := m.Node("a"), m.Node("b")
		pull(t, b, "jobs")
		pull(t, b, "others")
		m.AwaitLinks(a, b)
		send(t, push(t, a, "jobs"), body)
		settle()
		s, err := a.SeePeer(t.Context(), b.ID(), "jobs")
		if err != nil || s.Status.ID != b.ID().String() || len(s.Sockets) != 2 {
			t.Fatalf("%+v, %v", s, err)
		}
		for _, o := range s.Sockets {
			if told := o.Received != nil; told != (o.Name == "jobs") {
				t.Errorf("%+v", o)
			}
		}
		s, err = b.SeePeer(t.Context(), a.ID(), "jobs/1")
		if err != nil || s.Message == nil || s.Message.State != "leased" || s.Message.By != b.ID().String() {
			t.Errorf("message %+v, %v", s.Message, err)
		}
		if it, err := b.WhyPeer(t.Context(), a.ID(), "jobs"); err != nil || it.Subject != "jobs" || it.Cause == "" {
			t.Errorf("%+v, %v", it, err)
		}
		if all := a.Topology(t.Context()); len(all) != 2 || all[0].Status.ID != a.ID().String() || len(all[1].Sockets) != 2 {
			t.Errorf("%+v", all)
		}
	})
}

// Which nodes get no answer, and what they are told.
func TestWhoMayNotAskIsToldSo(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*node.Config)
		want string
	}{
		"another namespace": {func(c *node.Config) { c.Namespace = "blue" }, "another namespace"},
		"a private node":    {func(c *node.Config) { c.Private = true }, "Config.Private"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, m *meshtest.Mesh) {
				a, b := m.Node("a"), m.Node("b", c.edit)
				m.AwaitLinks(a, b)
				if s, err := a.SeePeer(t.Context(), b.ID(), ""); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%+v, %v, want %q", s, err, c.want)
				}
				for news, err := range a.FollowPeer(t.Context(), b.ID(), true) {
					if err == nil || !strings.Contains(err.Error(), c.want) {
						t.Errorf("%+v, %v, want %q", news, err, c.want)
						break // or it is followed for ever
					}
				}
				if it := a.Why(t.Context(), "b"); it.Cause == "" {
					t.Errorf("%+v", it)
				}
			})
		})
	}
}

func TestAskingNobodyIsAnError(t *testing.T) {
	bubble(t, func(t *testing.T, m *meshtest.Mesh) {
		a := m.Node("a")
		if _, err := a.SeePeer(t.Context(), node.ID{1}, ""); err == nil {
			t.Error("an answer from nowhere")
		}
		if _, err := a.Path(node.ID{1}); err == nil {
			t.Error("a path to nowhere")
		}
	})
}

func TestAQuestionToADeadPeerEndsInTime(t *testing.T) {
	bubble(t, func(t *testing.T, m *meshtest.Mesh) {
		a, b := m.Node("a"), m.Node("b")
		m.AwaitLinks(a, b)
		m.Kill(b)
		began := time.Now()
		if _, err := a.SeePeer(t.Context(), b.ID(), ""); err == nil {
			t.Error("the dead answer")
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// What happens at a node is told to its peer: first the past, then the present, until one of the two goes.
func TestAPeerIsFollowed(t *testing.T) {
	bubble(t, func(t *testing.T, m *meshtest.Mesh) {
		a := m.Node("a")
		b := m.Node("b", func(c *node.Config) { c.Logger = slog.New(slog.DiscardHandler) })
		m.AwaitLinks(a, b)
		settle()
		events, logs := 0, 0
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		time.AfterFunc(time.Second, func() { m.Node("c") })
		for news, err := range a.FollowPeer(ctx, b.ID(), false) {
			if err != nil {
				break
			}
			if e := news.Event; e != nil && e.State == "up" {
				events++
			}
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for news, err := range a.FollowPeer(ctx, b.ID(), true) {
			if err != nil {
				break
			}
			if strings.Contains(news.Log, "link up") {
				logs++
			}
		}
		if events != 2 || logs != 2 {
			t.Errorf("%d events and %d lines about links, want 2 and 2", events, logs)
		}
		for range 40 { // more than are answered at a time: who goes gives its place back
			for range a.FollowPeer(t.Context(), b.ID(), true) {
				break
			}
			settle()
		}
		if _, err := a.SeePeer(t.Context(), b.ID(), ""); err != nil {
			t.Errorf("after all who asked have gone: %v", err)
		}
		for range a.FollowPeer(t.Context(), b.ID(), true) {
			m.Kill(b) // then it ends with the link
		}
	})
}

// A peer that asks without end, or nonsense, is refused, and harms nobody.
func TestRogueQuestionsAreBoundedAndRefused(t *testing.T) {
	attack(t, func(t *testing.T, s *scene) {
		r := s.rogue("r", anyhow).link("r").echoes()
		ask := func(frame []byte) wire.Told {
			t.Helper()
			st, err := r.conn.OpenStream()
			if err != nil {
				t.Fatal(err)
			}
			st.Write(frame)
			typ, payload, err := socket.ReadFrame(st, 2<<20)
			if err != nil {
				return wire.Told{}
			}
			told, err := wire.ParseTold(payload)
			if typ != wire.TypeTold || err != nil {
				t.Fatalf("frame %#x, %v", typ, err)
			}
			return told
		}
		for what, a := range map[string]wire.Ask{
			"asked in version 2":         {Version: 2, What: "see"},
			"does not know the question": {Version: 1, What: "\x1b[2J"},
		} {
			if told := ask(wire.AppendAsk(nil, a)); !told.Refused || !strings.Contains(string(told.Body), what) || !printable(string(told.Body)) {
				t.Errorf("%+v: %+v %q", a, told, told.Body)
			}
		}
		if told := ask([]byte{byte(wire.TypeAsk), 1, 0xff}); told.Refused || told.Body != nil {
			t.Errorf("a broken question is answered: %+v", told)
		}
		if told := ask(wire.AppendAsk(nil, wire.Ask{Version: 1, What: "why", About: "echo/1"})); told.Refused || len(told.Body) == 0 {
			t.Errorf("a good question is not answered: %+v", told)
		}
		refused := 0
		for range 64 { // that never end
			if told := ask(wire.AppendAsk(nil, wire.Ask{Version: 1, What: "events"})); told.Refused {
				refused++
			}
		}
		if refused != 32 {
			t.Errorf("%d of 64 are refused, want 32", refused)
		}
		r.conn.CloseWithError(0, "")
		settle()
		if _, err := s.honest.SeePeer(t.Context(), s.n.ID(), ""); err != nil {
			t.Errorf("when the rogue is gone: %v", err)
		}
	})
}
