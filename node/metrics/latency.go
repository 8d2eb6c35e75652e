package metrics

import (
	"context"
	"sync"
	"time"

	"peermesh/patterns"
	"peermesh/socket"

	"github.com/prometheus/client_golang/prometheus"
)

// latencies are the bounds of histograms, from a pipe in memory to a peer that was away for an
// hour.
var latencies = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 3600}

// An observed histogram has a label for each of the first so many names.
type observed struct {
	vec  *prometheus.HistogramVec
	most int

	mu    sync.Mutex
	names map[string]bool
}

func newAges(most int) *observed {
	return &observed{most: most, names: map[string]bool{}, vec: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Name: "receiver_message_age_seconds", Buckets: latencies,
		Help: "Age of messages when their answer done was final: since their sender accepted them, without the time on the wire.",
	}, []string{"kind", "name"})}
}

func newRequests(most int) *observed {
	return &observed{most: most, names: map[string]bool{}, vec: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Name: "request_seconds", Buckets: latencies,
		Help: "Time from a request to its answer, or to what is known of it instead: ok, error, failed or indeterminate.",
	}, []string{"outcome", "name"})}
}

// label is the label of a name, which counts from now on as one that was given.
func (o *observed) label(name string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.names[name] {
		return name
	}
	if len(o.names) >= o.most {
		return other
	}
	o.names[name] = true
	return name
}

// OnDone is the option patterns.OnDone for a Pull, Sub or Rep that observes the age of each
// message when the answer "done" is final, and then calls then, which may be nil:
//
//	work, err := n.Pull("jobs", m.OnDone("pull", "jobs", nil))
//
// It costs some hundred nanoseconds for each message. Of the names that were ever given the first
// MaxNames have a label of their own, here and for Request.
func (m *Metrics) OnDone(kind, name string, then func(*socket.Message)) patterns.Option {
	h := m.ages.vec.WithLabelValues(kind, m.ages.label(name))
	return patterns.OnDone(func(msg *socket.Message) {
		h.Observe(msg.Age().Seconds())
		if then != nil {
			then(msg)
		}
	})
}

// Request is r.RequestMessage, and observes how long it took and what came of it.
func (m *Metrics) Request(ctx context.Context, r *patterns.Req, msg *socket.Message) (patterns.Reply, error) {
	began := time.Now()
	reply, err := r.RequestMessage(ctx, msg)
	m.requests.vec.WithLabelValues(patterns.OutcomeOf(err).String(), m.requests.label(r.Name())).Observe(time.Since(began).Seconds())
	return reply, err
}
