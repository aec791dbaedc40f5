package traces

import (
	"strings"

	"github.com/holdfast-edge/holdfast/coord"
	"github.com/holdfast-edge/holdfast/coord/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
)

// scope names what made the spans, to a collector.
const scope = "holdfast/coord/trace"

// W3C's flag that a span is sampled, and OTLP's (trace.proto, SpanFlags) that it is known whether the parent is elsewhere, and that it is.
const (
	flagSampled       = 0x001
	flagRemoteKnown   = 0x100
	flagRemoteParent  = 0x200
	statusDescription = "a message of the batch: "
)

// Resource says whose spans they are (OpenTelemetry's semantic conventions, service and host).
type Resource struct {
	Box     coord.BoxID
	Name    string
	Site    coord.SiteID
	Version string
}

func (r *Resource) proto() *resource.Resource {
	return &resource.Resource{Attributes: []*common.KeyValue{
		words("service.name", "holdfast"), words("service.instance.id", r.Box.String()), words("service.version", r.Version),
		words("host.name", r.Name), words("holdfast.site", r.Site.String()),
	}}
}

func words(key, value string) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: value}}}
}

func number(key string, value int64) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: value}}}
}

// request is what the collector is sent.
func request(r *Resource, records []trace.Record) *collector.ExportTraceServiceRequest {
	var out []*otlp.Span
	for i := range records {
		spans := records[i].Spans(nil) // what is made below refers to it
		for j := range spans {
			s := protoSpan(&spans[j])
			if spans[j].Name == trace.SpanMessage {
				s.Attributes = append(s.Attributes, words("holdfast.kept", strings.Join(records[i].Reasons.Names(), ",")))
			}
			out = append(out, s)
		}
	}
	return &collector.ExportTraceServiceRequest{ResourceSpans: []*otlp.ResourceSpans{{
		Resource: r.proto(), ScopeSpans: []*otlp.ScopeSpans{{Scope: &common.InstrumentationScope{Name: scope, Version: r.Version}, Spans: out}},
	}}}
}

func protoSpan(s *trace.Span) *otlp.Span {
	p := &otlp.Span{
		TraceId: s.Trace[:], SpanId: s.ID[:], Name: s.Name, Kind: otlp.Span_SPAN_KIND_INTERNAL, Flags: flagSampled | flagRemoteKnown,
		StartTimeUnixNano: uint64(s.Start), EndTimeUnixNano: uint64(s.End), Attributes: []*common.KeyValue{words("holdfast.box", s.Box.String())},
	}
	if s.Parent != (trace.SpanID{}) {
		p.ParentSpanId = s.Parent[:]
	}
	if s.Remote {
		p.Flags |= flagRemoteParent
	}
	switch {
	case s.Name == trace.SpanMessage:
		p.Kind = otlp.Span_SPAN_KIND_SERVER
	case s.Name == trace.SpanOrder && s.Remote:
		p.Kind = otlp.Span_SPAN_KIND_CONSUMER
	}
	for _, a := range s.Attrs {
		if a.Text != "" {
			p.Attributes = append(p.Attributes, words(a.Key, a.Text))
		} else {
			p.Attributes = append(p.Attributes, number(a.Key, a.Number))
		}
	}
	for _, e := range s.Events {
		p.Events = append(p.Events, &otlp.Span_Event{Name: e.Name, TimeUnixNano: uint64(e.At)})
	}
	for _, l := range s.Links {
		p.Links = append(p.Links, &otlp.Span_Link{TraceId: l.Trace[:], SpanId: l.Span[:], Flags: flagSampled})
	}
	if s.Error != "" {
		p.Status = &otlp.Status{Code: otlp.Status_STATUS_CODE_ERROR, Message: statusDescription + s.Error}
	}
	return p
}
