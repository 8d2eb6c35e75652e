package history

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// questions are the requests of one requester with one body; mostly it is one.
type questions struct {
	asked      uint64
	idempotent uint64
	answered   uint64 // ok and error
	failed     uint64
	executed   uint64
	at         []place // of what was asked and came of it; the first few
	executedAt []source
}

// source is a line of a file that is not a life's log.
type source struct {
	file string
	line uint32
}

// execution is the first one of a request.
type execution struct {
	hash uint64
	at   source
}

func (j *judge) question(node string, hash uint64) *questions {
	p := payload{node, hash}
	q := j.requests[p]
	if q == nil {
		q = &questions{}
		j.requests[p] = q
	}
	return q
}

func (q *questions) ask(level string, at place) {
	q.asked++
	if level == "idempotent" {
		q.idempotent++
	}
	q.note(at)
}

func (q *questions) note(at place) {
	if len(q.at) < maxShown {
		q.at = append(q.at, at)
	}
}

// takeReply notes an outcome.
func (j *judge) takeReply(l *living, e *event, at place) error {
	j.count(atMostOnce)
	c, ok := l.calls[e.n]
	if !ok {
		j.fault(atMostOnce, []place{at}, "request %d has one outcome more than it was asked", e.n)
		return nil
	}
	delete(l.calls, e.n)
	j.asked[payload{l.id, c.hash}]++
	q := j.question(l.id, c.hash)
	q.note(at)
	switch string(e.outcome) {
	case "ok", "error":
		q.answered++
	case "failed":
		q.failed++
	case "indeterminate":
	default:
		return fmt.Errorf("outcome %q", e.outcome)
	}
	return nil
}

// readExecutions reads a file of --exec-log: time, hash, requester and seq on each line.
func (j *judge) readExecutions(logs fs.FS, name string) error {
	return j.eachLine(logs, name, true, func(line []byte, number uint32) error {
		words := strings.Fields(string(line))
		if len(words) != 4 {
			return fmt.Errorf("%d words, want time, hash, node and seq", len(words))
		}
		if _, err := strconv.ParseInt(words[0], 10, 64); err != nil {
			return err
		}
		hash, err := (&event{hash: []byte(words[1])}).hashed()
		if err != nil {
			return err
		}
		seq, err := strconv.ParseUint(words[3], 10, 64)
		if err != nil {
			return err
		}
		j.report.Events++
		j.executed(words[2], seq, hash, source{name, number})
		return nil
	})
}

// executed notes an execution.
func (j *judge) executed(node string, seq, hash uint64, at source) {
	q := j.question(node, hash)
	q.executed++
	if len(q.executedAt) < maxShown {
		q.executedAt = append(q.executedAt, at)
	}
	began := j.began[node]
	if began == nil {
		began = map[uint64]execution{}
		j.began[node] = began
	}
	first, twice := began[seq]
	switch {
	case !twice:
		began[seq] = execution{hash, at}
	case first.hash != hash:
		j.add(onePayload, nil, []source{first.at, at}, "request %d of %s is executed with two bodies", seq, node)
	}
}

// concludeRequests holds outcomes to executions. Of several requests with one body it is not known which was which,
// so their sums are held against each other.
func (j *judge) concludeRequests() {
	for _, p := range slices.SortedFunc(maps.Keys(j.requests), payload.compare) {
		q := j.requests[p]
		if q.asked == 0 {
			if q.executed > 0 {
				j.add(noPhantom, nil, q.executedAt, "a request of %s is executed that it never sent", p.node)
			}
			continue
		}
		if len(j.run.ExecLogs) == 0 {
			continue
		}
		j.count(atMostOnce)
		once := q.idempotent == 0
		var what string
		switch {
		case once && q.executed > q.asked:
			what = fmt.Sprintf("executed %d times, asked %d times", q.executed, q.asked)
		case q.answered > q.executed:
			what = fmt.Sprintf("answered %d times, executed %d times", q.answered, q.executed)
		case once && q.failed+q.executed > q.asked:
			what = fmt.Sprintf("%d certainly not executed, %d executed, of %d", q.failed, q.executed, q.asked)
		default:
			continue
		}
		j.add(atMostOnce, q.at, q.executedAt, "request %016x of %s: %s", p.hash, p.node, what)
	}
	for i := range j.lives {
		l := &j.lives[i]
		if l.Role == "req" && !l.End.abrupt() && l.open > 0 {
			j.fault(atMostOnce, []place{l.firstOpen}, "%d requests have no outcome, and the requester has ended", l.open)
		}
	}
}
