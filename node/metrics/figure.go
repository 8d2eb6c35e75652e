package metrics

import (
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

const namespace = "peermesh"

// other is the label of what is folded.
const other = "other"

// figure is a metric.
type figure struct {
	desc    *prometheus.Desc
	kind    prometheus.ValueType
	longest bool // several sources make the largest value, not the sum
	shaky   bool // a counter whose source may fall
}

func counter(name, help string, labels ...string) *figure {
	return &figure{desc: describe(name, help, labels), kind: prometheus.CounterValue}
}

// shakyCounter counts what its source may take back; then the counter stays.
func shakyCounter(name, help string, labels ...string) *figure {
	return &figure{desc: describe(name, help, labels), kind: prometheus.CounterValue, shaky: true}
}

func gauge(name, help string, labels ...string) *figure {
	return &figure{desc: describe(name, help, labels), kind: prometheus.GaugeValue}
}

// extreme is a gauge that several sources do not add up to.
func extreme(name, help string, labels ...string) *figure {
	return &figure{desc: describe(name, help, labels), kind: prometheus.GaugeValue, longest: true}
}

func describe(name, help string, labels []string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

// series is a figure with its labels.
type series struct {
	of     *figure
	labels string // joined by separator
}

// folded reports whether other is among the labels.
func (s series) folded() bool { return slices.Contains(strings.Split(s.labels, separator), other) }

// separator stands in no name: they hold no control characters.
const separator = "\x00"

// sheet gathers the values of one scrape.
type sheet struct {
	rising *rising
	values map[series]float64
	order  []series
}

func newSheet(r *rising) *sheet { return &sheet{rising: r, values: map[series]float64{}} }

// add adds a value that has one source only.
func (s *sheet) add(f *figure, v float64, labels ...string) { s.addFrom("", false, f, v, labels...) }

// addFrom adds the value of one of several sources of a series, whose counters may come and go if
// it is folded.
func (s *sheet) addFrom(source string, fold bool, f *figure, v float64, labels ...string) {
	at := series{f, strings.Join(labels, separator)}
	before, known := s.values[at]
	if !known {
		s.order = append(s.order, at)
	}
	switch {
	case f.kind == prometheus.CounterValue && (f.shaky || fold):
		s.values[at] = s.rising.add(at, source, v)
	case f.longest:
		s.values[at] = max(before, v)
	default:
		s.values[at] = before + v
	}
}

// descriptions are those of all figures.
func descriptions() []*prometheus.Desc {
	out := []*prometheus.Desc{spoolSync}
	for _, f := range figures {
		out = append(out, f.desc)
	}
	return out
}

// figures are all of them.
var figures = []*figure{
	nodeInfo, nodeIncarnation, nodeProblems, nodeEventsMissed, nodeCandidates, folded,
	senderAccepted, senderCarried, senderOwed, senderSettled, senderHanded, senderAgain, senderLateDone, senderBytes, senderOnDisk,
	senderDelayed, senderPeers, senderRoom,
	subscriptionOwed, subscriptionBytes, subscriptionAttached, subscriptionExpelled,
	receiverDelivered, receiverBytes, receiverAnswered, receiverAgain, receiverDuplicates, receiverGaps, receiverQueued, receiverBegun,
	receiverPipes, receiverPaused,
	peers, linkRTT, linkSmoothed, linkWindow, linkSent, linkLost, linkReceived, linkSentBytes, linkBytes,
	spoolUsed, spoolQuota, spoolDisk, spoolReserve, spoolReadOnly, spoolDamaged, deadLetters,
	gatewayRequests, gatewayStreams, gatewayLeases, gatewayBodies,
	zeromqPeers, zeromqHandshakes, zeromqLost, zeromqReceived, zeromqSent, zeromqConfirmed, zeromqPending, zeromqDropped, zeromqStalls, zeromqStopped,
}

func (s *sheet) send(ch chan<- prometheus.Metric) {
	for _, at := range s.order {
		var labels []string
		if at.labels != "" {
			labels = strings.Split(at.labels, separator)
		}
		ch <- prometheus.MustNewConstMetric(at.of.desc, at.of.kind, s.values[at], labels...)
	}
}

// rising makes counters that never fall of sources that come, go and fall.
type rising struct {
	totals map[series]float64
	last   map[source]reading
	scrape uint64
}

type source struct {
	of   series
	name string
}

type reading struct {
	value  float64
	scrape uint64 // when it was read
}

func newRising() rising { return rising{totals: map[series]float64{}, last: map[source]reading{}} }

// add takes a source's value and returns the total of its series.
func (r *rising) add(at series, name string, v float64) float64 {
	from := source{at, name}
	r.totals[at] += max(0, v-r.last[from].value)
	r.last[from] = reading{v, r.scrape}
	return r.totals[at]
}

// sweep ends a scrape: it forgets the sources that had no part in it, and the totals of series
// that have none left but are not for many.
func (r *rising) sweep() {
	live := map[series]bool{}
	for from, l := range r.last {
		if l.scrape != r.scrape {
			delete(r.last, from)
			continue
		}
		live[from.of] = true
	}
	for at := range r.totals {
		if !live[at] && !at.folded() {
			delete(r.totals, at)
		}
	}
	r.scrape++
}
