//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Spec says how bad one direction of a link is. Shares are from 0 to 1; zero means: not this fault.
type Spec struct {
	Loss, Dup, Reorder, Corrupt float64       `json:",omitempty"`
	Delay, Jitter               time.Duration `json:",omitempty"`
	Rate                        int64         `json:",omitempty"` // bits a second
	Queue                       time.Duration `json:",omitempty"` // with Rate: the longest there may be before the line
	MTU                         int           `json:",omitempty"` // of IP packets, in bytes
	Seed                        uint64        `json:",omitempty"` // zero: a new one each time
}

// String shows the faults there are, in the form of the state file.
func (s Spec) String() string {
	b, err := json.Marshal(s)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

const (
	maxDelay     = time.Hour // longer is a slip, and must not overflow sums
	maxRate      = 1e12      // bits a second
	maxMTU       = 65535
	defaultQueue = 100 * time.Millisecond
)

// parse reads the flags of lab impair into s, and those that the caller has declared on flags.
func (s *Spec) parse(flags *flag.FlagSet, args []string) error {
	s.declare(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if s.Queue > 0 && s.Rate == 0 {
		return errors.New("--queue goes with --rate only")
	}
	if s.Rate > 0 && s.Queue == 0 {
		s.Queue = defaultQueue
	}
	return nil
}

func (s *Spec) declare(fs *flag.FlagSet) {
	fs.Func("loss", "share of packets lost", percent(&s.Loss))
	fs.Func("dup", "share of packets sent twice", percent(&s.Dup))
	fs.Func("reorder", "share of packets held back so that later ones overtake", percent(&s.Reorder))
	fs.Func("corrupt", "share of packets with one bit flipped", percent(&s.Corrupt))
	fs.Func("delay", "delay of each packet", delay(&s.Delay))
	fs.Func("jitter", "the delay varies by up to this, either way, in order", delay(&s.Jitter))
	fs.Func("queue", "with --rate: longest queue, in time (default 100ms)", delay(&s.Queue))
	fs.Func("rate", "bandwidth, e.g. 500kbit, 10mbit", rate(&s.Rate))
	fs.Func("mtu", "silently drop longer IP packets", func(v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 || n > maxMTU {
			return fmt.Errorf("want a number of bytes up to %d", maxMTU)
		}
		s.MTU = n
		return nil
	})
	fs.Uint64Var(&s.Seed, "seed", 0, "seed of the random choices (0: any)")
}

func percent(p *float64) func(string) error {
	return func(v string) error {
		f, err := strconv.ParseFloat(strings.TrimSuffix(v, "%"), 64)
		if inRange := f >= 0 && f <= 100; err != nil || !inRange { // not a number is in no range
			return errors.New("want a percentage from 0% to 100%")
		}
		*p = f / 100
		return nil
	}
}

func delay(d *time.Duration) func(string) error {
	return func(v string) error {
		got, err := time.ParseDuration(v)
		if err != nil || got < 0 || got > maxDelay {
			return fmt.Errorf("want a duration such as 20ms, up to %v", maxDelay)
		}
		*d = got
		return nil
	}
}

func rate(bits *int64) func(string) error {
	units := []struct {
		suffix string
		bits   float64
	}{{"kbit", 1e3}, {"mbit", 1e6}, {"gbit", 1e9}, {"bit", 1}, {"", 1}} // the last fits anything
	return func(v string) error {
		for _, u := range units {
			number, ok := strings.CutSuffix(strings.ToLower(v), u.suffix)
			if !ok {
				continue
			}
			f, err := strconv.ParseFloat(number, 64)
			if inRange := f*u.bits >= 1 && f*u.bits <= maxRate; err != nil || !inRange {
				break
			}
			*bits = int64(f * u.bits)
			return nil
		}
		return errors.New("want a rate such as 500kbit or 10mbit")
	}
}
