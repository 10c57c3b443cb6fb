package grpcmw

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// KeyOf returns the default key of a call, for instance for keyed.Config.Keys:
//
//	Keys: map[string]resilience.Policy{
//		resilience.Must(grpcmw.KeyOf("dns:///payments:443", "/payments.v1.Payments/Report")): reports,
//	}
//
// target is the text that is passed to grpc.NewClient: "payments:443" and
// "dns:///payments:443" are two keys. For an empty target, KeyOf returns the key of a
// Server. method is the full method, with or without the slash at its beginning. Generated
// code has it as a constant, such as Payments_Report_FullMethodName.
//
// KeyOf returns an error if method is not a service and a method. It also returns one if
// the program has generated code for the service, and the service has no such method.
func KeyOf(target, method string) (string, error) {
	full := strings.TrimPrefix(method, "/")
	service, name, ok := strings.Cut(full, "/")
	if !ok || service == "" || name == "" || strings.ContainsAny(full, " \t\r\n") || strings.Contains(name, "/") {
		return "", fmt.Errorf(`grpcmw: no key of method %q: write service and method, as in "/payments.v1.Payments/Charge"`, method)
	}
	if err := checkMethod(service, name); err != nil {
		return "", err
	}
	return target + "/" + full, nil
}

// checkMethod returns an error if the program has generated code for service and the
// service has no method of that name. Any other service may exist.
func checkMethod(service, name string) error {
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return nil
	}
	s, ok := d.(protoreflect.ServiceDescriptor)
	if !ok {
		return fmt.Errorf("grpcmw: no key of method /%s/%s: %s is not a service", service, name, service)
	}
	methods := s.Methods()
	if methods.ByName(protoreflect.Name(name)) != nil {
		return nil
	}
	var names []string
	for i := range methods.Len() {
		names = append(names, string(methods.Get(i).Name()))
	}
	return fmt.Errorf("grpcmw: no key of method /%s/%s: the service has the methods %s", service, name, strings.Join(names, ", "))
}
