package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"peermesh/patterns"
	"peermesh/socket"
	"peermesh/spool"
)

// slowDisk is a socket whose disk answers when the test wants.
type slowDisk struct {
	*patterns.Push
	next    uint64
	refuse  error
	answers []chan error
}

func (d *slowDisk) Stream() string              { return "s" }
func (d *slowDisk) Flush(context.Context) error { return nil }

func (d *slowDisk) post(context.Context, *socket.Message) (uint64, func(context.Context) error, error) {
	if d.refuse != nil {
		return 0, nil, d.refuse
	}
	answer := d.answers[d.next]
	d.next++
	return d.next, func(ctx context.Context) error {
		select {
		case err := <-answer:
			return err
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", socket.ErrUnknown, context.Cause(ctx))
		}
	}, nil
}

// pushTo begins a push of some messages to that disk. It returns what was printed, what
// ends the run, and where its error will be.
func pushTo(d *slowDisk, keepGoing bool, bodies ...string) (w *writes, stop func(error), ended chan error) {
	w = &writes{}
	t := talkTo(w)
	t.ctx, t.stop = context.WithCancelCause(context.Background())
	for range bodies {
		d.answers = append(d.answers, make(chan error, 1))
	}
	f := newFates(t)
	s := sending{talk: t, socket: d, post: d.post, fates: f, level: socket.Durable, keepGoing: keepGoing}
	ended = make(chan error, 1)
	go func() {
		source := argumentSource(bodies)
		err := s.all(&source, socket.Message{})
		f.close()
		ended <- err
	}()
	return w, func(err error) { t.stop(err) }, ended
}

// kinds are the events that were printed, each with the n it is about.
func (w *writes) kinds() string {
	var kinds []string
	for _, line := range w.all {
		_, rest, _ := strings.Cut(line, `"event":"`)
		kind, rest, _ := strings.Cut(rest, `"`)
		_, n, _ := strings.Cut(rest, `"n":`)
		n, _, _ = strings.Cut(n, ",")
		kinds = append(kinds, kind+strings.TrimRight(n, "}\n"))
	}
	return strings.Join(kinds, " ")
}

func TestManyMessagesAreOnTheirWayAndSentIsToldInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &slowDisk{}
		w, stop, ended := pushTo(d, false, "a", "b", "c")
		defer stop(nil)
		synctest.Wait()
		if got, want := w.kinds(), "send0 send1 send2"; got != want {
			t.Errorf("before the disk has answered: %s, want %s", got, want)
		}
		d.answers[1] <- nil
		synctest.Wait()
		if got, want := w.kinds(), "send0 send1 send2"; got != want {
			t.Errorf("with the second on disk: %s, want %s", got, want)
		}
		d.answers[0] <- nil
		d.answers[2] <- nil
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if got, want := w.kinds(), "send0 send1 send2 sent0 sent1 sent2"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestADiskThatFailsMakesUnknownAndExit5(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &slowDisk{}
		w, _, ended := pushTo(d, false, "a", "b", "c")
		synctest.Wait()
		d.answers[0] <- nil
		for _, a := range d.answers[1:] {
			a <- fmt.Errorf("%w: %w", socket.ErrUnknown, spool.ErrFailed)
		}
		err := <-ended
		if exitCode(err) != exitStorage || !errors.Is(err, socket.ErrUnknown) {
			t.Errorf("ended with %v, exit %d", err, exitCode(err))
		}
		if got, want := w.kinds(), "send0 send1 send2 sent0 unknown1 unknown2"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestARefusalIsDefiniteAndKeepGoingGoesOn(t *testing.T) {
	for keepGoing, want := range map[bool]string{false: "send0 refused0", true: "send0 refused0 send1 refused1"} {
		synctest.Test(t, func(t *testing.T) {
			d := &slowDisk{refuse: &spool.FullError{}}
			w, stop, ended := pushTo(d, keepGoing, "a", "b")
			defer stop(nil)
			if err := <-ended; exitCode(err) != exitStorage {
				t.Errorf("ended with %v, exit %d", err, exitCode(err))
			}
			if got := w.kinds(); got != want || !strings.Contains(w.all[1], `"definite":true,"code":"spool_full"`) {
				t.Errorf("got %s, %s; want %s", got, w.all[1], want)
			}
		})
	}
}

func TestADiskThatDoesNotAnswerIsGivenUpAfterTheSignal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &slowDisk{}
		w, stop, ended := pushTo(d, false, "a")
		synctest.Wait()
		stop(errSignal)
		if err := <-ended; !errors.Is(err, errSignal) {
			t.Errorf("ended with %v", err)
		}
		if got, want := w.kinds(), "send0 unknown0"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestRefusalsHaveTheCodesOfTheContract(t *testing.T) {
	for want, err := range map[string]error{
		"too_large":  socket.ErrTooLarge,
		"queue_full": socket.ErrQueueFull,
		"disk_full":  fmt.Errorf("append: %w", &spool.FullError{Disk: true}),
		"spool_full": fmt.Errorf("append: %w", &spool.FullError{}),
		"read_only":  fmt.Errorf("%w: %w", spool.ErrFailed, syscall.ENOSPC),
		"locked":     spool.ErrLocked,
		"policy":     &socket.Rejection{},
		"closed":     socket.ErrClosed,
		"invalid":    io.ErrNoProgress,
	} {
		if got, _ := refusalOf(err); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
	if code, exit := refusalOf(socket.ErrStorage); code != "read_only" || exit != exitStorage {
		t.Errorf("a state directory that failed: %s, exit %d", code, exit)
	}
}
