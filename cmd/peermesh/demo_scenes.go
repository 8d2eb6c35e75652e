package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"peermesh/internal/wire"
	"peermesh/patterns"
	"peermesh/socket"
)

// How much is done. The jobs take three workers some two seconds.
const (
	jobCount     = 600
	letterCount  = 50
	lettersFirst = 20 // before dora is away
	newsRounds   = 100
	newsEvery    = 15 * time.Millisecond
	askersEach   = 6   // of a service, at a time
	leastAsked   = 100 // of a service
	// bookWithin ends a booking that lies with a dead replier: it may have been executed,
	// so it is asked nowhere else.
	bookWithin = 12 * time.Second
)

// shareWork: office has jobs for anna, ben and carl.
func (d *demo) shareWork(ctx context.Context) error {
	d.show.say("push/pull", "office sends %d jobs to anna, ben and carl", jobCount)
	for n := range jobCount {
		if err := d.cast.jobs.Send(ctx, numbered(n)); err != nil {
			return err
		}
	}
	if err := d.cast.jobs.Flush(ctx); err != nil {
		return err
	}
	d.show.say("push/pull", "all %d jobs are done; %d that carl held went to the others", jobCount, d.cast.jobs.Stats().Redelivered)
	return nil
}

// awayAndBack: office writes to dora, who is away for a while. What cannot be delivered
// waits.
func (d *demo) awayAndBack(ctx context.Context) error {
	send := func(from, to int) error {
		for n := from; n < to; n++ {
			if err := d.cast.letters.Send(ctx, numbered(n)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := errors.Join(send(0, lettersFirst), d.cast.letters.Flush(ctx)); err != nil {
		return err
	}
	if err := d.cast.dora.leave(ctx); err != nil {
		return err
	}
	if err := send(lettersFirst, letterCount); err != nil {
		return err
	}
	d.show.say("push/pull", "dora has read %d letters and left; %d more wait for her", lettersFirst, d.cast.letters.Stats().Ledger.Queued)
	if err := d.cast.openDora(ctx); err != nil {
		return err
	}
	if err := d.cast.letters.Flush(ctx); err != nil {
		return err
	}
	d.show.say("push/pull", "dora is back and has read them all")
	return nil
}

// news are the topics of a round, and whom they are for: written down here rather than
// matched, so that the matching is put to the test.
var news = []struct {
	topic  string
	wanted []string
}{
	{"zurich.temp", []string{annaWants}},
	{"basel.temp", []string{annaWants, benWants}},
	{"basel.wind", []string{benWants}},
	{"basel.airport.temp", []string{benWants}}, // * is one token, > is one or more
	{"bern.wind", nil},
}

// expected are the numbers of the news that one subscription should get.
func expected(pattern string) (numbers []int) {
	for round := range newsRounds {
		for i, n := range news {
			for _, p := range n.wanted {
				if p == pattern {
					numbers = append(numbers, round*len(news)+i)
				}
			}
		}
	}
	return numbers
}

// spreadNews: office has a weather station, and a clock that may be missed.
func (d *demo) spreadNews(ctx context.Context) error {
	d.show.say("pub/sub", "office publishes on %d topics; anna wants %s, ben %s", len(news), annaWants, benWants)
	for round := range newsRounds {
		for i, n := range news {
			if err := d.cast.weather.Publish(ctx, n.topic, numbered(round*len(news)+i)); err != nil {
				return err
			}
		}
		if err := d.cast.ticks.Publish(ctx, "tick", numbered(round)); err != nil {
			return err
		}
		if err := pause(ctx, newsEvery); err != nil {
			return err
		}
	}
	if err := d.cast.weather.Flush(ctx); err != nil {
		return err
	}
	d.show.say("pub/sub", "anna has got %d news and ben %d, each once and in order", d.diary.ended(annaWants), d.diary.ended(benWants))
	return nil
}

// inquiry is what office asks of one service, by several askers at a time. It goes on
// until one replier was killed, so that somebody is caught in the middle.
type inquiry struct {
	service  string
	req      *patterns.Req
	patience time.Duration

	mu       sync.Mutex
	outcomes []socket.Outcome // by number; 0: not known yet
	done     int
}

// next is the number of the next question, if there shall be one.
func (a *inquiry) next(killed <-chan struct{}) (n int, more bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n = len(a.outcomes)
	select {
	case <-killed:
		if n >= leastAsked {
			return 0, false
		}
	default:
	}
	a.outcomes = append(a.outcomes, 0)
	return n, true
}

// ended notes what became of a question.
func (a *inquiry) ended(n int, o socket.Outcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.outcomes[n] = o
	a.done++
}

func (a *inquiry) progress() (done, asked int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.done, len(a.outcomes)
}

// run asks until there shall be no more questions.
func (a *inquiry) run(ctx context.Context, killed <-chan struct{}) {
	var askers sync.WaitGroup
	for range askersEach {
		askers.Go(func() {
			for ctx.Err() == nil {
				n, more := a.next(killed)
				if !more {
					return
				}
				one, cancel := context.WithTimeout(ctx, a.patience)
				_, err := a.req.Request(one, numbered(n))
				cancel()
				a.ended(n, patterns.OutcomeOf(err))
			}
		})
	}
	askers.Wait()
}

// count counts the questions that ended in one way.
func (a *inquiry) count(o socket.Outcome) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, other := range a.outcomes {
		if other == o {
			n++
		}
	}
	return n
}

// answerQuestions: office asks for prices, which may be told twice, and books rooms,
// which may not.
func (d *demo) answerQuestions(ctx context.Context) error {
	d.show.say("req/rep", "office asks for prices (idempotent) and books rooms (at most once); anna, ben and carl answer")
	var services sync.WaitGroup
	for _, a := range d.inquiries {
		services.Go(func() {
			a.run(ctx, d.killed)
			if ctx.Err() == nil {
				d.show.say("req/rep", "%s", a.summary())
			}
		})
	}
	services.Wait()
	return context.Cause(ctx)
}

// summary says what became of the questions.
func (a *inquiry) summary() string {
	_, asked := a.progress()
	answered := a.count(wire.OK)
	text := fmt.Sprintf("%s: %d of %d questions answered", a.service, answered, asked)
	if again := a.req.Stats().Redelivered; again > 0 {
		text += fmt.Sprintf(", %d asked again elsewhere", again)
	}
	if doubt := a.count(wire.Indeterminate); doubt > 0 {
		text += fmt.Sprintf(", %d indeterminate: carl had them, and only he knows", doubt)
	}
	return text
}

// hands are what somebody has begun and not ended.
type hands struct{ jobs, prices, bookings int }

func (d *demo) hands(who string) hands {
	return hands{d.diary.inHand(demoJobs, who), d.diary.inHand(demoPrice, who), d.diary.inHand(demoBook, who)}
}

// killOne: half-way, with something of everything in his hands, carl is killed.
func (d *demo) killOne(ctx context.Context) error {
	for {
		h, done := d.hands(whoIsKilled), d.diary.ended(demoJobs)
		if h.jobs > 0 && h.prices > 0 && h.bookings > 0 && 2*done >= jobCount || 4*done >= 3*jobCount {
			break
		}
		select {
		case <-d.diary.changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	d.cast.carl.kill()
	h := d.hands(whoIsKilled)
	d.killedAt = time.Now()
	close(d.killed)
	d.show.say("demo", "%d of %d jobs are done: carl is killed (SIGKILL) in the middle of %d jobs, %d prices and %d bookings",
		d.diary.ended(demoJobs), jobCount, h.jobs, h.prices, h.bookings)
	d.show.say("demo", "nobody is told; his work is with the others once he has said nothing for 10 s")
	return nil
}
