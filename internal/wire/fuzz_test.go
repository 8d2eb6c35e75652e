package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"slices"
	"testing"
)

func FuzzHello(f *testing.F)     { fuzzPayload(f, TypeHello) }
func FuzzOffer(f *testing.F)     { fuzzPayload(f, TypeOffer) }
func FuzzPeers(f *testing.F)     { fuzzPayload(f, TypePeers) }
func FuzzAttach(f *testing.F)    { fuzzPayload(f, TypeAttach) }
func FuzzAttached(f *testing.F)  { fuzzPayload(f, TypeAttached) }
func FuzzFragment(f *testing.F)  { fuzzPayload(f, TypeFragment) }
func FuzzRanges(f *testing.F)    { fuzzPayload(f, TypeDone, TypeRevoke) }
func FuzzNack(f *testing.F)      { fuzzPayload(f, TypeNack) }
func FuzzLeave(f *testing.F)     { fuzzPayload(f, TypeLeave) }
func FuzzReply(f *testing.F)     { fuzzPayload(f, TypeReply) }
func FuzzSubscribe(f *testing.F) { fuzzPayload(f, TypeSubscribe) }
func FuzzAsk(f *testing.F)       { fuzzPayload(f, TypeAsk, TypeTold) }
func FuzzStripes(f *testing.F)   { fuzzPayload(f, TypeJoin, TypeStripe, TypeSpread) }

// FuzzTexts is for the frames that hold sentences.
func FuzzTexts(f *testing.F) { fuzzPayload(f, TypeRefused, TypeRejected, TypeGoAway, TypePolicy) }

// FuzzNumbers is for the frames that hold one or two numbers, and BYE that holds none.
func FuzzNumbers(f *testing.F) {
	fuzzPayload(f, TypeWelcome, TypeWithdraw, TypeHeartbeat, TypeBye, TypeUnsubscribe, TypePause, TypeResume, TypeWant, TypeGap, TypeSubscribed, TypeCredit)
}

// fuzzPayload gives each input to the parsers of all types.
func fuzzPayload(f *testing.F, types ...Type) {
	for _, g := range golden {
		if slices.Contains(types, g.t) {
			f.Add(payloadOf(f, unhex(g.hex), g.t))
		}
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, typ := range types {
			checkParse(t, typ, payload)
		}
	})
}

// checkParse demands of any payload: it is refused, or it stands for one value that is written as it came.
func checkParse(t *testing.T, typ Type, payload []byte) {
	c := codecs[typ]
	v, err := c.parse(payload)
	if used, most := held(reflect.ValueOf(v)), 64*len(payload)+1024; used > most {
		t.Errorf("type %#x: %d bytes held for a payload of %d, error %v, want at most %d", byte(typ), used, len(payload), err, most)
	}
	if err != nil {
		if !refused(err) {
			t.Errorf("type %#x: error %v", byte(typ), err)
		}
		return
	}
	again := payloadOf(t, c.write(nil, v), typ)
	if !sameBytes(typ, payload, again) {
		t.Errorf("type %#x %+v:\n was % x\n  is % x", byte(typ), v, payload, again)
	}
	if w, err := c.parse(again); err != nil || !reflect.DeepEqual(v, w) {
		t.Errorf("type %#x read again: error %v\n was %+v\n  is %+v", byte(typ), err, v, w)
	}
}

// sameBytes reports whether a payload was written as it came, but for what a newer version may have added.
func sameBytes(typ Type, payload, again []byte) bool {
	switch typ {
	case TypeHeartbeat: // padding and flags
		return len(again) >= minHeartbeat
	case TypeAttached: // flags
		_, at, _ := uvarint(payload)
		payload = slices.Clone(payload)
		payload[at] &= 1
	}
	if codecs[typ].plus {
		return bytes.HasPrefix(payload, again)
	}
	return bytes.Equal(payload, again)
}

// held is how much memory v's slices and strings keep, apart from bytes that alias the input.
func held(v reflect.Value) (n int) {
	switch v.Kind() {
	case reflect.String:
		return v.Len()
	case reflect.Struct:
		for i := range v.NumField() {
			n += held(v.Field(i))
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return 0
		}
		n = v.Cap() * int(v.Type().Elem().Size())
		for i := range v.Len() {
			n += held(v.Index(i))
		}
	}
	return n
}

func FuzzNext(f *testing.F) {
	for _, g := range golden {
		f.Add(unhex(g.hex))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for {
			typ, payload, rest, need, err := Next(b)
			switch {
			case errors.Is(err, ErrShort):
				if need <= len(b) || need > 1+binary.MaxVarintLen32+MaxFrame {
					t.Fatalf("% x: short, need %d", b, need)
				}
				return
			case err != nil:
				if !refused(err) || payload != nil || rest != nil {
					t.Fatalf("% x: payload % x, rest % x, error %v", b, payload, rest, err)
				}
				return
			}
			if frame := append(binary.AppendUvarint([]byte{byte(typ)}, uint64(len(payload))), payload...); !bytes.Equal(frame, b[:need]) {
				t.Fatalf("was % x\n is % x", b[:need], frame)
			}
			if !bytes.Equal(rest, b[need:]) {
				t.Fatalf("% x: rest % x after %d bytes", b, rest, need)
			}
			if _, known := codecs[typ]; known {
				checkParse(t, typ, payload)
			}
			if b = rest; len(b) == 0 {
				return
			}
		}
	})
}

func FuzzData(f *testing.F) {
	var all []byte
	for _, g := range goldenRecords {
		f.Add(payloadOf(f, AppendData(nil, Run{}, unhex(g.hex)), TypeData))
		all = append(all, unhex(g.hex)...)
	}
	f.Add(payloadOf(f, AppendData(nil, Run{Covers: true}, all), TypeData))
	f.Fuzz(func(t *testing.T, payload []byte) {
		checkParse(t, TypeData, payload)
		if _, records, err := ParseData(payload); err == nil {
			checkRecords(t, records)
		}
	})
}

// FuzzRecord tries contents behind a length and checksum that are right, where FuzzData would hardly get.
func FuzzRecord(f *testing.F) {
	for _, g := range goldenRecords {
		f.Add(contentOf(unhex(g.hex)))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		record := withChecksum(content)
		if _, rest, _ := NextRecord(append(record, "next"...)); string(rest) != "next" {
			t.Errorf("% x: rest %q", record, rest)
		}
		checkRecords(t, record)
	})
}

// checkRecords walks b to its end or to where its records cannot be told apart.
func checkRecords(t *testing.T, b []byte) {
	for len(b) > 0 {
		r, rest, err := NextRecord(b)
		if err != nil && !refused(err) && !errors.Is(err, ErrChecksum) {
			t.Fatalf("% x: error %v", b, err)
		}
		if len(rest) >= len(b) || !bytes.HasSuffix(b, rest) {
			t.Fatalf("% x: rest % x, error %v", b, rest, err)
		}
		if err == nil {
			if again := AppendRecord(nil, r); !bytes.Equal(again, b[:len(b)-len(rest)]) {
				t.Fatalf("%+v:\n was % x\n  is % x", r, b[:len(b)-len(rest)], again)
			}
			if _, err := ParseHeaders(r.Headers); err != nil && !refused(err) {
				t.Fatalf("headers % x: error %v", r.Headers, err)
			}
		}
		b = rest
	}
}

func FuzzHeaders(f *testing.F) {
	f.Add(AppendHeaders(nil, []Header{{"content-type", "text/plain"}, {"", ""}, {"a", "ü"}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		hs, err := ParseHeaders(b)
		if used, most := held(reflect.ValueOf(hs)), 64*len(b)+1024; used > most {
			t.Errorf("%d bytes held for % x, want at most %d", used, b, most)
		}
		if err != nil {
			if !refused(err) || hs != nil {
				t.Errorf("% x: %q, error %v", b, hs, err)
			}
			return
		}
		if again := AppendHeaders(nil, hs); !bytes.Equal(again, b) {
			t.Errorf("%q:\n was % x\n  is % x", hs, b, again)
		}
	})
}
