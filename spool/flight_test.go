package spool

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// aloft makes it look as if a group were on its way to the disk, until the function it returns is called.
// The committer has nothing to do meanwhile but what the test gives it.
func aloft(s *Store) (land func()) {
	landed := make(chan struct{})
	s.change.Lock()
	defer s.change.Unlock()
	s.flight = landed
	return func() { close(landed) }
}

// busyDisk is a store whose disk is busy with a group, as aloft has it, and what it has already is one record.
func busyDisk(t *testing.T) (s *Store, q *Queue, land func()) {
	t.Helper()
	s = mustOpenWith(t, t.TempDir(), Options{Profile: ProfileEdge})
	restless(s)
	q, _ = mustOpenQueue(t, s, "jobs")
	commit(t, s, func(c *Change) { mustAppend(t, c, q, "first") })
	return s, q, aloft(s)
}

// fullGroup appends a group that is full, and so is written at once.
func fullGroup(t *testing.T, s *Store, q *Queue) *group {
	t.Helper()
	c := s.Begin()
	for range 10 {
		mustAppend(t, c, q, strings.Repeat("x", s.profile.group/8))
	}
	g := c.g
	c.End()
	<-g.taken
	return g
}

// tooSoon is how long a test looks out for what must not happen yet.
const tooSoon = 200 * time.Millisecond

// landsBehind lets the group ahead of g land, and checks that g was not done before.
func landsBehind(t *testing.T, g *group, land func()) {
	t.Helper()
	select {
	case <-g.done:
		t.Error("a group is done before the one ahead of it")
	case <-time.After(tooSoon):
	}
	land()
	<-g.done
	must(t, g.err)
}

func TestGroupsLandInOrder(t *testing.T) {
	s, q, land := busyDisk(t)
	g := fullGroup(t, s, q)
	landsBehind(t, g, land)
	if got := unsettled(t, q, nil); len(got) != 11 {
		t.Errorf("%d records", len(got))
	}
}

func TestALargeGroupIsWrittenWhileTheDiskIsBusy(t *testing.T) {
	s, q, land := busyDisk(t)
	c := s.Begin()
	for c.g.size < s.profile.early {
		mustAppend(t, c, q, strings.Repeat("x", s.profile.early/8))
	}
	g := c.g
	c.End()
	<-g.taken
	landsBehind(t, g, land)
}

// The mark would call the failed one certain.
func TestAGroupBehindOneThatFailedIsNotWritten(t *testing.T) {
	s, q, land := busyDisk(t)
	before := s.markNow().possible
	g := fullGroup(t, s, q)
	s.fail(errors.New("the sync of the one ahead"))
	land()
	<-g.done
	if g.err == nil {
		t.Error("a group is called durable behind one that is not")
	}
	m, err := readMark(s.dir, nil)
	must(t, err)
	if m.certain > before || m.possible > before {
		t.Errorf("the mark says %d, certain %d; the last durable one was %d", m.possible, m.certain, before)
	}
}

func TestASmallGroupWaitsForTheOneOnItsWay(t *testing.T) {
	s, q, land := busyDisk(t)
	var g *group
	for range 3 {
		c := s.Begin()
		mustAppend(t, c, q, "small")
		if g != nil && c.g != g {
			t.Error("a small group was taken while the disk was busy")
		}
		g = c.g
		c.End()
	}
	land()
	<-g.done
	must(t, g.err)
}

func TestABatchWaitsForTheLastOfItsGroups(t *testing.T) {
	s, _, land := busyDisk(t)
	must(t, s.ahead.turn(false))
	select {
	case <-s.ahead.busy.done:
		t.Error("Badger has what the log may not have")
	case <-time.After(tooSoon):
	}
	land()
	must(t, s.ahead.wait())
	if n := inBadger(t, s); n != 1 {
		t.Errorf("%d blocks are in Badger", n)
	}
}
