package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"strings"
	"time"
)

// histogram counts durations in buckets that are as wide as their values are large:
// one nanosecond each up to 128 ns, and from there on 64 to every doubling, so that a
// figure read from it is off by less than one part in 64, whatever its size. It takes
// 30 KB and never allocates. The zero value is empty. Not safe for concurrent use.
//
//	value    0 ... 127 | 128 ... 255 | 256 ... 511 | ...
//	width            1 |           2 |           4 | ...
//	buckets        128 |          64 |          64 | ...
type histogram struct {
	counts [histogramBuckets]uint64
	n      uint64
	most   time.Duration
}

const (
	perDoubling      = 64
	perDoublingBits  = 6
	histogramBuckets = (63 - perDoublingBits + 1) * perDoubling
)

// bucketOf is the place of a value that is not negative.
func bucketOf(v uint64) int {
	shift := max(bits.Len64(v)-perDoublingBits-1, 0)
	return shift*perDoubling + int(v>>shift)
}

// bucketFrom is the smallest value of a bucket.
func bucketFrom(i int) uint64 {
	if i < 2*perDoubling {
		return uint64(i)
	}
	shift := i/perDoubling - 1
	return uint64(i%perDoubling+perDoubling) << shift
}

// record counts d; what is negative counts as zero.
func (h *histogram) record(d time.Duration) {
	d = max(d, 0)
	h.counts[bucketOf(uint64(d))]++
	h.n++
	h.most = max(h.most, d)
}

// add counts what o has counted.
func (h *histogram) add(o *histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
	h.most = max(h.most, o.most)
}

// quantile is the value that a share q of all values does not exceed: the middle of
// its bucket, never more than the largest value. 0 of an empty histogram.
func (h *histogram) quantile(q float64) time.Duration {
	want := uint64(math.Ceil(q * float64(h.n)))
	seen := uint64(0)
	for i, c := range h.counts {
		if seen += c; c > 0 && seen >= want {
			from, to := bucketFrom(i), bucketFrom(i+1)
			return min(time.Duration(from+(to-from)/2), h.most)
		}
	}
	return h.most
}

// histogramText is how a histogram travels between processes: its buckets that are
// not empty.
type histogramText struct {
	Most    time.Duration `json:"most"`
	Buckets [][2]uint64   `json:"buckets"` // place and count
}

// MarshalJSON writes the buckets that are not empty.
func (h *histogram) MarshalJSON() ([]byte, error) {
	t := histogramText{Most: h.most, Buckets: [][2]uint64{}}
	for i, c := range h.counts {
		if c > 0 {
			t.Buckets = append(t.Buckets, [2]uint64{uint64(i), c})
		}
	}
	return json.Marshal(t)
}

// UnmarshalJSON reads what MarshalJSON wrote, over whatever was there.
func (h *histogram) UnmarshalJSON(b []byte) error {
	var t histogramText
	if err := json.Unmarshal(b, &t); err != nil {
		return err
	}
	*h = histogram{most: t.Most}
	for _, b := range t.Buckets {
		if b[0] >= histogramBuckets {
			return errors.New("histogram: no such bucket")
		}
		h.counts[b[0]] += b[1]
		h.n += b[1]
	}
	return nil
}

// draw shows the distribution, a line for each doubling, bars of at most width
// characters.
func (h *histogram) draw(w io.Writer, width int) {
	type row struct{ from, to, count uint64 }
	var rows []row
	top := uint64(0)
	for i := 0; i < histogramBuckets; i += perDoubling {
		r := row{from: bucketFrom(i), to: bucketFrom(i + perDoubling)}
		for _, c := range h.counts[i : i+perDoubling] {
			r.count += c
		}
		if r.count == 0 && len(rows) == 0 {
			continue
		}
		rows = append(rows, r)
		top = max(top, r.count)
	}
	for len(rows) > 0 && rows[len(rows)-1].count == 0 {
		rows = rows[:len(rows)-1]
	}
	for _, r := range rows {
		bar := strings.Repeat("#", int((r.count*uint64(width)+top-1)/top)) // whoever is there shows
		share := 100 * float64(r.count) / float64(h.n)
		fmt.Fprintf(w, "%9s to %-9s %7.3f %%  %s\n", short(r.from), short(r.to), share, bar)
	}
}

// short writes nanoseconds with three digits.
func short(ns uint64) string {
	v, unit := float64(ns), "ns"
	for _, u := range []string{"us", "ms", "s"} {
		if v < 1000 {
			break
		}
		v, unit = v/1000, u
	}
	digits := 2
	switch {
	case unit == "ns" || v >= 100:
		digits = 0
	case v >= 10:
		digits = 1
	}
	return fmt.Sprintf("%.*f %s", digits, v, unit)
}
