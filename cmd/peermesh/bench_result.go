package main

import (
	"slices"
	"time"
)

// spread is a figure over the rounds of a run.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// spreadOf is nil of nothing.
func spreadOf(values []float64) *spread {
	if len(values) == 0 {
		return nil
	}
	return &spread{median(values), slices.Min(values), slices.Max(values)}
}

// median of values, of which there is at least one.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// over divides round by round.
func over(a, b []float64) []float64 {
	var out []float64
	for i := range min(len(a), len(b)) {
		out = append(out, a[i]/b[i])
	}
	return out
}

// quantiles reads one quantile of each round, in microseconds.
func quantiles(rounds []*histogram, q float64) []float64 {
	var out []float64
	for _, h := range rounds {
		out = append(out, micros(h.quantile(q)))
	}
	return out
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// figures are what was found of one program.
type figures struct {
	Name          string  `json:"name"`
	PerSecond     *spread `json:"msgs_per_s"`
	Ratio         *spread `json:"ratio,omitempty"`         // the workload's msgs_per_s to this one's
	Single        *spread `json:"single_p50_us,omitempty"` // one at a time, each waited for
	SingleSlow    *spread `json:"single_p99_us,omitempty"`
	SingleRatio   *spread `json:"single_p50_ratio,omitempty"` // the workload's to this one's
	SendCPU       float64 `json:"cpu_send_s_per_m"`           // seconds for a million messages
	ReceiveCPU    float64 `json:"cpu_receive_s_per_m"`
	SendMemory    int64   `json:"rss_peak_send"` // bytes
	ReceiveMemory int64   `json:"rss_peak_receive"`
}

// figures compares a program with the one that is measured.
func (p *contender) figures(own *contender) figures {
	f := figures{Name: p.name, PerSecond: spreadOf(p.bursts), Single: spreadOf(quantiles(p.singles, 0.5)), SingleSlow: spreadOf(quantiles(p.singles, 0.99)),
		SendCPU: p.sendCPU.Seconds() / float64(p.n) * 1e6, ReceiveCPU: p.receiveCPU.Seconds() / float64(p.n) * 1e6,
		SendMemory: p.sendPeak, ReceiveMemory: p.receivePeak}
	if p != own {
		f.Ratio = spreadOf(over(own.bursts, p.bursts))
		f.SingleRatio = spreadOf(over(quantiles(own.singles, 0.5), quantiles(p.singles, 0.5)))
	}
	return f
}

// verdict says whether a run is to be believed: whether the references did as well as
// they do where nothing disturbs them.
type verdict struct {
	OK    bool    `json:"ok"`
	What  string  `json:"what"`
	Ratio spread  `json:"ratio"`
	Least float64 `json:"least"`
}

// What a run must show to be believed.
const (
	leastQUIC = 0.3 // of TLS, at yardstickSize
	leastWAL  = 0.8 // of a plain file
)

// benchResult is what a run found.
type benchResult struct {
	programs []figures // the measured one first
	latency  histogram // of all rounds
	n        int

	p50, p99, p999 float64 // microseconds, medians of the rounds
	verdict        *verdict
}

func (p *benchPlan) result(all []*contender) *benchResult {
	own := all[0]
	r := &benchResult{n: own.n}
	for _, q := range all {
		r.programs = append(r.programs, q.figures(own))
	}
	rounds := own.paced
	if p.workload == workReq {
		rounds = own.singles
	}
	for _, h := range rounds {
		r.latency.add(h)
	}
	r.p50, r.p99, r.p999 = median(quantiles(rounds, 0.5)), median(quantiles(rounds, 0.99)), median(quantiles(rounds, 0.999))
	r.verdict = judge(all)
	return r
}

// judge holds the references against each other; nil where there are none.
func judge(all []*contender) *verdict {
	named := map[string]*contender{}
	for _, p := range all {
		named[p.name] = p
	}
	v := &verdict{What: "QUIC to TLS at 100 bytes", Least: leastQUIC}
	switch {
	case named[progQUIC] != nil:
		v.Ratio = *spreadOf(over(named[progQUIC].yards, named[progTLS].yards))
	case named[progWAL] != nil:
		v.What, v.Least = "WAL to a plain file", leastWAL
		v.Ratio = *spreadOf(over(named[progWAL].bursts, named[progPlainFile].bursts))
	default:
		return nil
	}
	v.OK = v.Ratio.Median >= v.Least
	return v
}

// against is the program that the run's one ratio is to: the slower of those it is made
// of. -1: there is none.
func (r *benchResult) against(p *benchPlan) int {
	names := []string{progQUIC}
	if p.workload == workDurable {
		names = []string{progWAL, progMemory}
	}
	found := -1
	for i, f := range r.programs {
		if slices.Contains(names, f.Name) && (found < 0 || f.PerSecond.Median < r.programs[found].PerSecond.Median) {
			found = i
		}
	}
	return found
}
