package discovery

import "time"

// The pace of the questions. A node that starts, or that lost something, asks fast and then calms down.
var fastQuestions = [...]time.Duration{0, 1 * time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second}

const (
	calmPace  = 30 * time.Second       // between questions after the fast ones, give or take a fifth
	startSpan = 250 * time.Millisecond // the first question waits up to so long, so that a rack that boots does not ask in one voice
	minPace   = time.Second            // never faster, whatever is asked of us
)

// schedule says when to ask next. It has no clock: every method is told the time, and a random number
// from 0 up to 1 where it needs one.
type schedule struct {
	base  time.Time // start of the fast questions
	asked int       // questions since base
	last  time.Time // the last question, zero before the first
	next  time.Time // when to ask next
}

// hurry starts the fast questions, again or for the first time.
func (s *schedule) hurry(now time.Time, random float64) {
	s.base = now.Add(time.Duration(random * float64(startSpan)))
	s.asked = 0
	s.next = s.base
	if !s.last.IsZero() {
		s.next = latest(s.next, s.last.Add(minPace))
	}
}

// ask notes that a question goes out now.
func (s *schedule) ask(now time.Time, random float64) {
	s.last = now
	s.asked++
	if s.asked < len(fastQuestions) {
		s.next = latest(s.base.Add(fastQuestions[s.asked]), now.Add(minPace))
		return
	}
	s.next = now.Add(spread(calmPace, random))
}

// spread returns d give or take a fifth, for a random number from 0 up to 1.
func spread(d time.Duration, random float64) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*random))
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
