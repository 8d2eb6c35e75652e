package identity

import (
	"crypto/ed25519"
	"encoding/json"
	"strings"
	"testing"
)

func TestIDsAreTheHashOfTheKey(t *testing.T) {
	public := fixedPrivate(1).Public().(ed25519.PublicKey)
	// Computed apart from this code; ids must never change under existing nodes.
	const want = "gr2q7gf5lh6pzfdnurnkvputhm"
	if got := IDOf(public).String(); got != want {
		t.Errorf("IDOf = %s, want %s", got, want)
	}
	if got := fixedKey(1).ID().String(); got != want {
		t.Errorf("Key.ID = %s, want %s", got, want)
	}
	if got := fixedMesh(t, 1).ID().String(); got != want {
		t.Errorf("Mesh.ID = %s, want %s", got, want)
	}
}

func TestIDsRoundTripThroughText(t *testing.T) {
	type both struct {
		Node ID
		Mesh MeshID
	}
	want := both{Node: fixedKey(2).ID(), Mesh: fixedMesh(t, 3).ID()}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got both
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("%s came back as %v", text, got)
	}
}

func TestOnlyTheCanonicalSpellingOfAnIDParses(t *testing.T) {
	good := fixedKey(2).ID().String()
	bad := map[string]string{
		"empty":             "",
		"one short":         good[1:],
		"one long":          good + "a",
		"upper case":        strings.ToUpper(good),
		"padded":            good + "======",
		"a line break":      good[:25] + "\n",
		"a foreign letter":  "1" + good[1:],
		"not ASCII":         "é" + good[2:],
		"bits past the end": strings.Repeat("a", 25) + "b",
	}
	for name, s := range bad {
		if id, err := ParseID(s); err == nil {
			t.Errorf("%s: ParseID(%q) = %v, want an error", name, s, id)
		}
		if id, err := ParseMeshID(s); err == nil {
			t.Errorf("%s: ParseMeshID(%q) = %v, want an error", name, s, id)
		}
		id := fixedKey(2).ID()
		if err := id.UnmarshalText([]byte(s)); err == nil || id != fixedKey(2).ID() {
			t.Errorf("%s: UnmarshalText(%q) = %v and %v, want an error and no change", name, s, err, id)
		}
		mesh := fixedMesh(t, 2).ID()
		if err := mesh.UnmarshalText([]byte(s)); err == nil || mesh != fixedMesh(t, 2).ID() {
			t.Errorf("%s: UnmarshalText(%q) = %v and %v, want an error and no change", name, s, err, mesh)
		}
	}
}

func TestIDsOrderByTheirBytes(t *testing.T) {
	low, high := ID{0: 1, 15: 9}, ID{0: 2}
	if low.Compare(high) != -1 || high.Compare(low) != 1 || low.Compare(low) != 0 {
		t.Errorf("Compare = %d, %d, %d, want -1, 1, 0", low.Compare(high), high.Compare(low), low.Compare(low))
	}
	if !(ID{}).IsZero() || low.IsZero() || !(MeshID{}).IsZero() || (MeshID{1}).IsZero() {
		t.Error("IsZero is true of exactly the zero ids")
	}
}

func TestHash8DoesNotShowTheMeshID(t *testing.T) {
	id := fixedMesh(t, 1).ID()
	got := id.Hash8()
	want := [8]byte{0x6e, 0xa6, 0x34, 0x2a, 0x93, 0x62, 0x54, 0x26}
	if got != want {
		t.Errorf("Hash8 = %x, want %x", got, want)
	}
	if string(got[:]) == string(id[:8]) {
		t.Errorf("Hash8 = %x, the id's own first bytes", got)
	}
}

func FuzzParseID(f *testing.F) {
	f.Add(fixedKey(1).ID().String())
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err == nil && id.String() != s {
			t.Errorf("ParseID(%q) is written %q", s, id)
		}
	})
}
