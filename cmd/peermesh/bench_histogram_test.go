package main

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestHistogramBucketsHoldTheirValues(t *testing.T) {
	for i := range histogramBuckets - 1 {
		from, to := bucketFrom(i), bucketFrom(i+1)
		if from >= to || bucketOf(from) != i || bucketOf(to-1) != i {
			t.Fatalf("bucket %d: %d to %d, but its ends lie in %d and %d", i, from, to, bucketOf(from), bucketOf(to-1))
		}
		if width := to - from; from >= 2*perDoubling && width*perDoubling > from {
			t.Fatalf("bucket %d: %d wide at %d", i, width, from)
		}
	}
	if i := bucketOf(math.MaxInt64); i != histogramBuckets-1 {
		t.Errorf("the longest duration lies in bucket %d of %d", i, histogramBuckets)
	}
}

func TestHistogramQuantilesAreThoseOfTheValues(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var h, a, b histogram
	var all []time.Duration
	for i := range 20000 {
		d := time.Duration(math.Exp(r.Float64()*20) * 10)
		all = append(all, d)
		h.record(d)
		if i%3 == 0 {
			a.record(d)
		} else {
			b.record(d)
		}
	}
	a.add(&b)
	if a != h {
		t.Error("the sum of two parts differs from the whole")
	}
	slices.Sort(all)
	for _, q := range []float64{0, 0.001, 0.5, 0.99, 0.999, 1} {
		want := all[max(int(math.Ceil(q*float64(len(all))))-1, 0)]
		if got := h.quantile(q); (got - want).Abs() > want/perDoubling+1 {
			t.Errorf("quantile %v: got %v, want %v", q, got, want)
		}
	}
}

func TestHistogramOfNothingIsZero(t *testing.T) {
	var h histogram
	if got := h.quantile(0.5); got != 0 {
		t.Errorf("got %v", got)
	}
	var text strings.Builder
	if h.draw(&text, 40); text.String() != "" {
		t.Errorf("drew %q", text.String())
	}
	if h.record(-time.Second); h.quantile(1) != 0 {
		t.Errorf("a negative duration counted as %v", h.quantile(1))
	}
}

func TestHistogramTravelsAsJSON(t *testing.T) {
	var h, got histogram
	for _, d := range []time.Duration{0, 5, 5, time.Microsecond, time.Hour, math.MaxInt64} {
		h.record(d)
	}
	text, err := json.Marshal(&h)
	if err != nil {
		t.Fatal(err)
	}
	got.record(time.Minute) // overwritten
	if err := json.Unmarshal(text, &got); err != nil || got != h {
		t.Errorf("%s: %v; got n %d and most %v, want %d and %v", text, err, got.n, got.most, h.n, h.most)
	}
	if err := json.Unmarshal([]byte(`{"buckets":[[99999,1]]}`), &got); err == nil {
		t.Error("a bucket that does not exist was taken")
	}
}

func TestHistogramIsDrawnFromItsFirstToItsLastDoubling(t *testing.T) {
	var h histogram
	for range 100 {
		h.record(10 * time.Microsecond)
	}
	h.record(40 * time.Microsecond)
	var text strings.Builder
	h.draw(&text, 20)
	want := "  8.19 us to 16.4 us    99.010 %  ####################\n" +
		"  16.4 us to 32.8 us     0.000 %  \n" +
		"  32.8 us to 65.5 us     0.990 %  #\n"
	if text.String() != want {
		t.Errorf("got\n%swant\n%s", text.String(), want)
	}
}
