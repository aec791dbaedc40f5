package coord

import (
	"errors"
	"reflect"
	"testing"
)

func someDecision() *Decision {
	return &Decision{
		Kind: "member.add", Subject: "box-4", Principal: "operator:ann", Reason: "a fifth box", Seconds: 60, Nonce: 7, Made: 300, Seen: 12,
		Writes:    []DocWrite{{Key: "a", Was: 3, Seconds: 600, Value: []byte("x")}, {Key: "b", Value: []byte{}}, {Key: "c", Was: 300}},
		Authority: []byte("signed"),
	}
}

func TestADecisionComesBackAsItWas(t *testing.T) {
	d := someDecision()
	got, err := DecodeDecision(d.Append(nil))
	if err != nil || !reflect.DeepEqual(got, d) {
		t.Fatalf("%v\n got %+v\nwant %+v", err, got, d)
	}
}

// The digest is what is approved: it binds everything but what convinces.
func TestADecisionsDigestBindsAllButItsAuthority(t *testing.T) {
	site := SiteID{1}
	want := someDecision().Digest(site)
	d := someDecision()
	if d.Authority = nil; d.Digest(site) != want {
		t.Error("the authority changes the digest")
	}
	if want == d.Digest(SiteID{2}) {
		t.Error("another site has the same digest")
	}
	for name, change := range map[string]func(*Decision){
		"kind": func(d *Decision) { d.Kind = "member.remove" }, "subject": func(d *Decision) { d.Subject = "" },
		"principal": func(d *Decision) { d.Principal = "operator:bob" }, "reason": func(d *Decision) { d.Reason = "" },
		"seconds": func(d *Decision) { d.Seconds++ }, "nonce": func(d *Decision) { d.Nonce++ },
		"made": func(d *Decision) { d.Made++ }, "seen": func(d *Decision) { d.Seen++ }, "lasts": func(d *Decision) { d.Writes[0].Seconds++ },
		"key": func(d *Decision) { d.Writes[0].Key = "z" }, "was": func(d *Decision) { d.Writes[0].Was++ },
		"value": func(d *Decision) { d.Writes[0].Value = nil }, "empty": func(d *Decision) { d.Writes[1].Value = nil },
		"removed": func(d *Decision) { d.Writes[2].Value = []byte{} }, "writes": func(d *Decision) { d.Writes = d.Writes[:2] },
	} {
		d := someDecision()
		if change(d); d.Digest(site) == want {
			t.Errorf("%s is not bound", name)
		}
	}
}

func FuzzDecodeDecision(f *testing.F) {
	f.Add(someDecision().Append(nil))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := DecodeDecision(b)
		if err != nil {
			if !errors.Is(err, ErrDecision) {
				t.Fatal(err)
			}
			return
		}
		if again := d.Append(nil); string(again) != string(b) {
			t.Fatalf("read %x, wrote %x", b, again)
		}
	})
}
