package socket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"peermesh/internal/identity"
	"peermesh/internal/wire"
)

// shelf is a ReplyStore. While it is held, nothing is known to be on it.
type shelf struct {
	mu    sync.Mutex
	notes map[string][]byte
	held  bool
	wait  []func(error)
	calls sync.WaitGroup
}

func (s *shelf) Note(key string) []byte { return s.all()[key] }

func (s *shelf) all() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.notes)
}

func (s *shelf) Notes(prefix string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		all := s.all()
		for _, k := range slices.Sorted(maps.Keys(all)) {
			if strings.HasPrefix(k, prefix) && !yield(k, all[k]) {
				return
			}
		}
	}
}

func (s *shelf) Save(values map[string][]byte, then func(error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range values {
		if v == nil {
			delete(s.notes, k)
		} else {
			s.notes[k] = v
		}
	}
	if s.held {
		s.wait = append(s.wait, then)
		return
	}
	s.calls.Go(func() { then(nil) })
}

func (s *shelf) hold() {
	s.mu.Lock()
	s.held = true
	s.mu.Unlock()
}

// release tells all that was held how it went.
func (s *shelf) release(err error) {
	s.mu.Lock()
	wait := s.wait
	s.held, s.wait = false, nil
	s.mu.Unlock()
	for _, then := range wait {
		then(err)
	}
	synctest.Wait()
}

// replier is a Rep with a shelf, which may be full already.
func replier(t testing.TB, s *shelf, adjust ...func(*InboxConfig)) *Inbox {
	if s.notes == nil {
		s.notes = map[string][]byte{}
	}
	b := newInbox(t, wire.Rep, append(adjust, func(c *InboxConfig) { c.Replies, c.NoteName = s, "rep" })...)
	t.Cleanup(s.calls.Wait)
	return b
}

// careful is a requester of level once-durable that has a state directory.
func careful(id byte) *source {
	s := newRequester(id, 1<<20)
	s.level, s.Store[5] = Durable, 1
	return s
}

// starts begins a request whose body is that.
func starts(t testing.TB, b *Inbox, body string) *Message {
	t.Helper()
	m := recv(t, b, body)
	if err := b.Start(m); err != nil {
		t.Fatal(err)
	}
	return m
}

// lists what is on a shelf of requests: seq and first byte, with + for each part more.
func (s *shelf) requests() (out []string) {
	for k, v := range s.Notes("rep\x00") {
		switch rest := k[4:]; len(rest) {
		case requestKeySize:
			out = append(out, fmt.Sprint(binary.BigEndian.Uint64([]byte(rest[requestKeySize-8:])), ":", v[0]))
		case partKeySize:
			out[len(out)-1] += "+"
		}
	}
	return out
}

func TestAttachedWaitsUntilTheStreamIsKnownOnDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		disk := &shelf{}
		b := replier(t, disk)
		disk.hold()
		s := careful('s')
		f := s.open(t, b)
		same(t, "before", types(f.hear()), []string(nil))
		f.cut()
		f = s.open(t, b)
		same(t, "before, on another pipe", types(f.hear()), []string(nil))
		disk.release(nil)
		parsed(t, wire.ParseAttached, f.one(wire.TypeAttached))
		f.cut()
		disk.hold() // there is nothing to wait for any more
		s.attach(t, b)
	})
}

func TestAPipeEndsWhenItsStreamCannotBeKnownOnDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		disk := &shelf{}
		b := replier(t, disk)
		disk.hold()
		f := careful('s').open(t, b)
		f.hear()
		disk.release(errors.New("no disk"))
		f.dead(ErrStorage)
	})
}

func TestARequestIsStartedAndAnsweredWhenTheDiskSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		disk, final := &shelf{}, 0
		b := replier(t, disk, func(c *InboxConfig) { c.OnDone = func(*Message) { final++ } })
		s := careful('s')
		f, _ := s.attach(t, b)
		f.say(data(1, "q"))
		m := recv(t, b, "q")
		disk.hold()
		begun := make(chan error, 1)
		go func() { begun <- b.Start(m) }()
		synctest.Wait()
		if len(begun) > 0 {
			t.Fatal("it was started before the disk said so")
		}
		disk.release(nil)
		if err := <-begun; err != nil {
			t.Fatal(err)
		}
		same(t, "on disk", disk.requests(), "[1:0]")
		disk.hold()
		if err := b.Reply(m, wire.OK, []byte("answer")); err != nil {
			t.Fatal(err)
		}
		same(t, "replies", replies(t, f.hear()), []string(nil))
		f.cut()
		f, a := s.attach(t, b)
		same(t, "done and held", fmt.Sprint(a.Done, a.Held), fmt.Sprintf("[] [{%d [{1 1}]}]", s.Edition))
		equal(t, "final", final, 0)
		disk.release(nil)
		same(t, "replies", replies(t, f.hear()), "[1 ok 0+6/6]")
		equal(t, "final", final, 1)
		same(t, "on disk", disk.requests(), "[1:1]")
		f.say(confirm(s.Edition, 1))
		f.hear()
		f.cut()
		same(t, "on disk", disk.requests(), []string(nil))
	})
}

func TestAStartThatTheDiskRefusesIsAnErrorAndSoIsAllThatFollows(t *testing.T) {
	bubble(t, func(t *testing.T) {
		disk := &shelf{}
		b := replier(t, disk)
		f, _ := careful('s').attach(t, b)
		f.say(data(1, "q"), data(2, "r"))
		m, n := recv(t, b, "q"), starts(t, b, "r")
		disk.hold()
		begun := make(chan error, 1)
		go func() { begun <- b.Start(m) }()
		synctest.Wait()
		disk.release(errors.New("no disk"))
		for what, err := range map[string]error{"Start": <-begun, "Reply": b.Reply(n, wire.OK, nil), "Start again": b.Start(m)} {
			if !errors.Is(err, ErrStorage) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, err := b.Recv(wait(t)); !errors.Is(err, ErrStorage) {
			t.Errorf("Recv: %v", err)
		}
		b.Close()
		if err := b.Start(m); !errors.Is(err, ErrClosed) {
			t.Errorf("Start after Close: %v", err)
		}
	})
}

func TestTheNextLifeKnowsWhatWasBegunAndAnswersAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		disk := &shelf{}
		b := replier(t, disk, func(c *InboxConfig) { c.Local.MaxMessage = 4 << 20 })
		s := careful('s')
		s.MaxMessage = 4 << 20
		f, a := s.attach(t, b)
		s.last = a.Store
		f.say(data(1, "q"), data(2, "r"), data(3, "s"), data(4, "t"))
		recv(t, b, "q")
		m, _, o := starts(t, b, "r"), starts(t, b, "s"), starts(t, b, "t")
		long := filler(1 << 20)
		if err := errors.Join(b.Reply(m, wire.Error, []byte("no luck")), b.Reply(o, wire.OK, slices.Concat(long, long, []byte("!")))); err != nil {
			t.Fatal(err)
		}
		f.hear()
		same(t, "on disk", disk.requests(), "[2:2 3:0 4:1++]")

		next := &shelf{notes: disk.all()}
		b = replier(t, next, func(c *InboxConfig) { c.Local.Nonce[5]++; c.Local.MaxMessage = 4 << 20 })
		equal(t, "bytes of replies", b.cached, 2<<20+8)
		s.replies = 4 << 20
		s.number = 0
		f = s.open(t, b)
		var got bytes.Buffer
		fs := f.hear()
		a = parsed(t, wire.ParseAttached, fs[0].payload)
		equal(t, "forgotten", a.Forgotten, false)
		same(t, "done, held and lost", fmt.Sprint(a.Done, a.Held, a.Lost), fmt.Sprintf("[{%d [{2 2} {4 4}]}] [] [{%d [{3 3}]}]", s.Edition, s.Edition))
		for _, x := range fs {
			if x.t == wire.TypeReply {
				if r := parsed(t, wire.ParseReply, x.payload); r.Seq == 4 {
					got.Write(r.Part)
				} else {
					same(t, "the error", fmt.Sprintf("%d %v %s", r.Seq, r.Outcome, r.Part), "2 error no luck")
				}
			}
		}
		if want := slices.Concat(long, long, []byte("!")); !bytes.Equal(got.Bytes(), want) {
			t.Errorf("a long reply of %d bytes came as %d others", len(want), got.Len())
		}
		f.say(data(2, "r"), data(3, "s"), data(4, "t")) // whatever is asked again
		none(t, b)
		f.alive()
		f.say(confirm(s.Edition, 2, 4), confirm(s.Edition, 3))
		f.hear()
		f.cut()
		same(t, "on disk", next.requests(), []string(nil))
		equal(t, "bytes of replies", b.cached, 0)
	})
}

func TestWhatARequesterNoLongerWaitsForIsNotRecalled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		disk := &shelf{}
		b := replier(t, disk)
		s := careful('s')
		f, _ := s.attach(t, b)
		f.say(data(1, "q"), data(2, "r"), data(3, "s"))
		b.Reply(starts(t, b, "q"), wire.OK, []byte("one"))
		starts(t, b, "r")
		b.Reply(starts(t, b, "s"), wire.OK, []byte("three"))
		f.hear()
		s.Edition, s.Incarnation, s.Nonce[7], s.start = s.Edition+1, 2, 7, 3 // its next life
		next := &shelf{notes: disk.all()}
		for _, b := range []*Inbox{b, replier(t, next, func(c *InboxConfig) { c.Local.Nonce[5]++ })} {
			f, a := s.attach(t, b)
			same(t, "done and lost", fmt.Sprint(a.Done, a.Lost), fmt.Sprintf("[{%d [{3 3}]}] []", s.Edition-1))
			f.cut()
			equal(t, "bytes of replies", b.cached, 5)
		}
		same(t, "on disk", next.requests(), "[3:1]")
		same(t, "on disk", disk.requests(), "[2:0 3:1]") // still running there
	})
}

func TestAReplierWithoutADirectoryTakesNoRequestsThatAreExecutedOnceInAllLives(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := careful('s').open(t, newInbox(t, wire.Rep))
		equal(t, "code", identity.Code(parsed(t, wire.ParseRejected, f.one(wire.TypeRejected)).Code), CodeNoDir)
	})
}

// What is left of a stream after so long, with its link and its replier gone.
func TestAStreamIsForgottenInItsTime(t *testing.T) {
	for _, c := range []struct {
		name      string
		dir       bool // the requester has a state directory
		away      time.Duration
		restart   bool // of the replier, at the end of that
		forgotten bool
	}{
		{"a while", true, time.Hour, false, false},
		{"a while, and the replier restarted", true, time.Hour, true, false},
		{"nearly 30 days", true, recordAge - time.Hour, true, false},
		{"more than 30 days", true, recordAge + time.Hour, true, true},
		{"without a directory, a moment", false, time.Minute, false, false},
		{"without a directory, a moment, and the replier restarted", false, time.Minute, true, false},
		{"without a directory, a while", false, Grace + time.Minute, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				disk := &shelf{}
				b := replier(t, disk)
				s := careful('s')
				if !c.dir {
					s.Store = s.Nonce
				}
				f, a := s.attach(t, b)
				f.say(data(1, "q"))
				b.Reply(starts(t, b, "q"), wire.OK, nil)
				f.hear()
				f.cut()
				s.last = a.Store
				time.Sleep(c.away)
				if c.restart {
					b = replier(t, &shelf{notes: disk.all()}, func(c *InboxConfig) { c.Local.Nonce[5]++ })
					if c.forgotten { // it is given time to come all the same
						time.Sleep(Grace + time.Second)
						careful('z').attach(t, b)
					}
				}
				_, a = s.attach(t, b)
				equal(t, "forgotten", a.Forgotten, c.forgotten)
				equal(t, "done", len(a.Done) == 0, c.forgotten)
			})
		})
	}
}

func TestARequesterWithoutADirectoryIsGoneWhenAnotherProcessOfItsNodeComes(t *testing.T) {
	for _, restart := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			disk := &shelf{}
			b := replier(t, disk)
			s := careful('s')
			s.Store = s.Nonce
			f, _ := s.attach(t, b)
			f.say(data(1, "q"), data(2, "r"))
			b.Reply(starts(t, b, "q"), wire.OK, []byte("one"))
			f.hear()
			f.cut()
			if restart {
				disk = &shelf{notes: disk.all()}
				b = replier(t, disk)
			}
			s.Nonce[3]++
			s.Store = s.Nonce
			s.attach(t, b)
			same(t, "on disk", disk.requests(), []string(nil))
			equal(t, "bytes of replies", b.cached, 0)
			equal(t, "streams", len(b.streams), 1)
			equal(t, "records", len(b.records), 1)
			none(t, b)
		})
	}
}

func TestAPeersStoresOnDiskAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		disk := &shelf{notes: map[string][]byte{}}
		for i := range recordsPerPeer {
			s := careful('s')
			binary.BigEndian.PutUint64(s.Store[8:], uint64(i+1))
			disk.notes["rep\x00"+string(s.Node[:])+string(s.Store[:])] = (&record{seen: time.Now()}).value()
		}
		b := replier(t, disk)
		f := careful('s').open(t, b)
		equal(t, "code", identity.Code(parsed(t, wire.ParseRejected, f.one(wire.TypeRejected)).Code), CodeLimit)
		careful('t').attach(t, b)
	})
}

func TestNoRequestsAreTakenWhileAllReplyCachesAreFull(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := replier(t, &shelf{}, func(c *InboxConfig) { c.Prefetch = 1; c.Local.MaxMessage = 20 << 20 })
		s := careful('s')
		f, _ := s.attach(t, b)
		b.mu.Lock()
		b.cached = maxReplies // of others
		b.mu.Unlock()
		f.say(data(1, "q"))
		b.Reply(starts(t, b, "q"), wire.OK, []byte("x"))
		if c := f.only(wire.TypeCredit); len(c) > 0 {
			t.Errorf("credit %x", c)
		}
		f.say(confirm(s.Edition, 1))
		if c := f.only(wire.TypeCredit); len(c) != 1 {
			t.Errorf("%d CREDITs", len(c))
		}
	})
}

// Whatever is found on disk, a replier neither panics nor sends what was not stored whole.
func FuzzRecall(f *testing.F) {
	f.Add([]byte{0}, []byte{})
	f.Add(append([]byte{1, 0, 0, 0, 0, 0, 0, 0, 2}, "ok"...), []byte{})
	f.Add(append([]byte{2, 0, 0, 0, 0, 0, 0, 0, 4}, "ab"...), []byte("cd"))
	f.Add([]byte{9, 255, 255, 255, 255, 255, 255, 255, 255}, []byte("x"))
	f.Add([]byte{}, []byte{1})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		s := careful('s')
		disk := &shelf{notes: map[string][]byte{}}
		own := "rep\x00" + string(s.Node[:]) + string(s.Store[:])
		id := own + strings.Repeat("\x00", 15) + "\x07"
		disk.notes[own], disk.notes[id], disk.notes[id+"\x00\x00\x00\x01"], disk.notes[id+"?"] = second, first, second, first
		b := replier(t, disk)
		st := &stream{box: b, key: streamKey{s.Node, s.Store}, lost: map[requestID]struct{}{}}
		if err := st.recall(0); err != nil {
			t.Fatal(err)
		}
		var a wire.Attached
		st.memory.Attached(&a)
		equal(t, "told of", len(a.Done)+len(a.Lost), 1)
		if r, ok := st.replies.Get(requestID{Seq: 7}); ok {
			if _, total, _ := parseReplyNote(first); uint64(len(r.body)) != total || r.outcome < wire.OK || r.outcome > wire.Indeterminate {
				t.Errorf("%v of %d bytes from %x and %x", r.outcome, len(r.body), first, second)
			}
		}
	})
}
