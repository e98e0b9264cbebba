# Reads messages, each after its length in 4 octets, and answers each with a line of JSON.
use strict;
use warnings;
use Email::MIME;
use Encode qw(decode);
use JSON::PP;
use MIME::Base64 qw(encode_base64);

binmode STDIN;
binmode STDOUT;
$| = 1;
my $json = JSON::PP->new->utf8;

while (read(STDIN, my $length, 4) == 4) {
    read(STDIN, my $raw, unpack('N', $length));
    print $json->encode(reading(Email::MIME->new($raw))), "\n";
}

sub reading {
    my ($mail) = @_;
    my @leaves = leaves($mail);
    my %reading = (subject => $mail->header_str('Subject'), structure => structure($mail));
    my %fields = (sender => 'From', to => 'To', cc => 'Cc', reply_to => 'Reply-To');
    $reading{$_} = people($mail, $fields{$_}) for keys %fields;
    $reading{text} = join '', map { $_->body_str } grep { is_text($_, 'plain') } @leaves;
    $reading{html} = join '', map { $_->body_str } grep { is_text($_, 'html') } @leaves;
    my @files = grep { !is_text($_, 'plain') && !is_text($_, 'html') } @leaves;
    $reading{files} = [map { [$_->filename // '', type($_), encode_base64($_->body, '')] } @files];
    return \%reading;
}

sub people {
    my ($mail, $name) = @_;
    my @people = map { $_->addresses } $mail->header_as_obj($name);
    # Names come as characters, addresses as octets.
    return [map { [$_->phrase // '', decode('UTF-8', $_->address)] } @people];
}

sub type { return (split /;/, $_[0]->content_type // 'text/plain')[0] }

sub is_text {
    my ($part, $subtype) = @_;
    return type($part) eq "text/$subtype" && !$part->header_raw('Content-Disposition');
}

sub leaves {
    my ($part) = @_;
    return $part if type($part) !~ m{^multipart/};
    return map { leaves($_) } $part->subparts;
}

sub structure {
    my ($part) = @_;
    return type($part) if type($part) !~ m{^multipart/};
    return [type($part), map { structure($_) } $part->subparts];
}
