package identity

import (
	"reflect"
	"strings"
	"testing"
)

func TestTheSPIFFEFormIsFixed(t *testing.T) {
	id := spiffeID{mesh: MeshID{1}, node: ID{2}, claims: Claims{
		Namespace: "", Name: "küche_1/a.b-C", Roles: []string{"..", "sensor"},
	}}
	const want = "spiffe://aeaaaaaaaaaaaaaaaaaaaaaaaa/ns/_/node/aiaaaaaaaaaaaaaaaaaaaaaaaa" +
		"/name/k_c3_bcche_5f1_2fa.b-C/role/_2e_2e/role/sensor"
	if got := id.String(); got != want {
		t.Errorf("String = %s\nwant     %s", got, want)
	}
	back, err := parseSPIFFE(want)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back, id) {
		t.Errorf("parsed %+v, want %+v", back, id)
	}
}

func TestLabelsRoundTripWhateverTheyHold(t *testing.T) {
	for _, label := range []string{
		"", "_", "__", "_2e", ".", "..", "...", "a", "A", "resizer-1", "with space", "a/b", "/", "%2f", "a:b@c?d#e",
		"Küche", "日本語", "👩‍🔬", "\u202e", strings.Repeat("_", maxLabelBytes), strings.Repeat("x", maxLabelBytes),
		strings.Repeat("é", maxLabelBytes/2), "\ufffd",
	} {
		want := spiffeID{mesh: MeshID{1}, node: ID{2}, claims: Claims{Namespace: label, Name: label}}
		uri, err := want.url()
		if err != nil {
			t.Errorf("label %q: %v", label, err)
			continue
		}
		got, err := parseSPIFFE(uri.String())
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("label %q came back as %+v (%v) through %s", label, got, err, uri)
		}
		for _, segment := range strings.Split(strings.TrimPrefix(uri.String(), spiffeScheme), "/") {
			if segment == "" || segment == "." || segment == ".." || strings.Trim(segment, spiffeChars) != "" {
				t.Errorf("label %q gives the segment %q, which SPIFFE forbids", label, segment)
			}
		}
	}
}

// spiffeChars are all that a path segment may hold (SPIFFE ID standard, section 2.2).
const spiffeChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"

func TestClaimsThatWouldNotBeOneLineOfTextAreRefused(t *testing.T) {
	mesh, key := fixedMesh(t, 1), fixedKey(1)
	many := make([]string, maxRoles+1)
	for i := range many {
		many[i] = strings.Repeat("r", i+1)
	}
	long := strings.Repeat("_", maxLabelBytes)
	for name, c := range map[string]Claims{
		"NUL":               {Name: "a\x00b"},
		"ANSI":              {Name: "\x1b[31mred"},
		"a line break":      {Namespace: "a\nb"},
		"DEL":               {Namespace: "\x7f"},
		"a C1 control":      {Roles: []string{"\u009b31m"}},
		"invalid UTF-8":     {Name: "\xff"},
		"half a character":  {Name: "é"[:1]},
		"a name too long":   {Name: strings.Repeat("x", maxLabelBytes+1)},
		"an empty role":     {Roles: []string{""}},
		"too many roles":    {Roles: many},
		"too long together": {Namespace: long, Name: long, Roles: []string{long}},
	} {
		if chain, err := mesh.Issue(key.Public(), c, birth, 0); err == nil {
			t.Errorf("%s: issued a certificate of %d bytes, want an error", name, len(chain[0]))
		}
		if _, err := NewCredentials(mesh, key, c, nil); err == nil {
			t.Errorf("%s: made credentials, want an error", name)
		} else if strings.ContainsAny(err.Error(), "\x00\x1b\n\x7f\u009b") {
			t.Errorf("%s: the error %q repeats what it refuses", name, err)
		}
	}
}

func TestOnlyTheCanonicalURIParses(t *testing.T) {
	const mesh, node = "aeaaaaaaaaaaaaaaaaaaaaaaaa", "aiaaaaaaaaaaaaaaaaaaaaaaaa"
	const good = "spiffe://" + mesh + "/ns/a/node/" + node + "/name/b"
	long := func(s string) string { return s + strings.Repeat("_5f", maxLabelBytes-1) }
	if _, err := parseSPIFFE(good + "/role/" + long("a")); err != nil {
		t.Fatalf("one long role: %v", err)
	}
	if _, err := parseSPIFFE(good); err != nil {
		t.Fatalf("parseSPIFFE(%q): %v", good, err)
	}
	for name, uri := range map[string]string{
		"empty":                     "",
		"another scheme":            "https://" + mesh + "/ns/a/node/" + node + "/name/b",
		"an upper-case scheme":      "SPIFFE://" + mesh + "/ns/a/node/" + node + "/name/b",
		"no path":                   "spiffe://" + mesh,
		"no name":                   "spiffe://" + mesh + "/ns/a/node/" + node,
		"another order":             "spiffe://" + mesh + "/node/" + node + "/ns/a/name/b",
		"an upper-case mesh":        "spiffe://" + strings.ToUpper(mesh) + "/ns/a/node/" + node + "/name/b",
		"a port":                    "spiffe://" + mesh + ":1/ns/a/node/" + node + "/name/b",
		"a user":                    "spiffe://u@" + mesh + "/ns/a/node/" + node + "/name/b",
		"an empty mesh":             "spiffe:///ns/a/node/" + node + "/name/b",
		"a node id too short":       "spiffe://" + mesh + "/ns/a/node/" + node[1:] + "/name/b",
		"an empty segment":          "spiffe://" + mesh + "/ns//node/" + node + "/name/b",
		"a trailing slash":          good + "/",
		"a key without value":       good + "/role",
		"an empty role":             good + "/role/_",
		"an unknown key":            good + "/colour/red",
		"a role twice":              good + "/role/a/role/a",
		"unsorted roles":            good + "/role/b/role/a",
		"too many roles":            good + strings.Repeat("/role/a", maxRoles+1),
		"a query":                   good + "?x",
		"a fragment":                good + "#x",
		"percent-encoding":          good + "%20",
		"an open escape":            good + "_4",
		"an escape of no hex":       good + "_zz",
		"an upper-case escape":      good + "_C3_BC",
		"an escape that is idle":    good + "_41",
		"a dot that stands bare":    good[:len(good)-1] + ".",
		"an escaped NUL":            good + "_00",
		"escaped ANSI":              good + "_1b",
		"escaped invalid UTF-8":     good + "_ff",
		"too long together":         good + "/role/" + long("a") + "/role/" + long("b") + "/role/" + long("c"),
		"a label too long":          good + strings.Repeat("x", maxLabelBytes),
		"an underscore not escaped": good + "_",
	} {
		if id, err := parseSPIFFE(uri); err == nil {
			t.Errorf("%s: parseSPIFFE(%q) = %+v, want an error", name, uri, id)
		}
	}
}

func FuzzParseSPIFFE(f *testing.F) {
	f.Add(spiffeID{mesh: MeshID{1}, node: ID{2}, claims: Claims{Name: "a_b/ü", Roles: []string{"x", "y"}}}.String())
	f.Add(spiffeID{mesh: MeshID{1}, user: true, node: ID{2}, claims: Claims{Namespace: "*", Roles: []string{"x*"}}}.String())
	f.Fuzz(func(t *testing.T, uri string) {
		id, err := parseSPIFFE(uri)
		if err != nil {
			return
		}
		if id.String() != uri {
			t.Errorf("%q is written %q", uri, id)
		}
		if _, err := id.claims.normal(); err != nil {
			t.Errorf("%q carries claims that may not be issued: %v", uri, err)
		}
	})
}

func FuzzLabelsRoundTrip(f *testing.F) {
	f.Add("namespace", "name", "role")
	f.Add("", "..", "_")
	f.Fuzz(func(t *testing.T, namespace, name, role string) {
		claims, err := Claims{Namespace: namespace, Name: name, Roles: []string{role}}.normal()
		if err != nil {
			return
		}
		want := spiffeID{mesh: MeshID{1}, node: ID{2}, claims: claims}
		uri, err := want.url()
		if err != nil {
			return
		}
		got, err := parseSPIFFE(uri.String())
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v came back as %+v (%v) through %s", want, got, err, uri)
		}
	})
}
