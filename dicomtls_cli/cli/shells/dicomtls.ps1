# Completion of dicomtls in PowerShell: made by `dicomtls completion powershell`.

Register-ArgumentCompleter -Native -CommandName dicomtls -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $elements = @($commandAst.CommandElements | Where-Object { $_.Extent.EndOffset -lt $cursorPosition } |
        ForEach-Object { if ($_ -is [System.Management.Automation.Language.StringConstantExpressionAst]) { $_.Value } else { $_.Extent.Text } })
    $words = @($elements | Select-Object -Skip 1)
    # An empty word would be dropped on its way to the program: `--word=` carries it.
    & $elements[0] completion powershell "--word=$wordToComplete" -- $words 2>$null | ForEach-Object {
        $value, $about = $_ -split "`t", 2
        if ($value -eq ':files') {
            $path = $wordToComplete.Substring($about.Length)
            [System.Management.Automation.CompletionCompleters]::CompleteFilename($path) | ForEach-Object {
                [System.Management.Automation.CompletionResult]::new(
                    $about + $_.CompletionText, $_.ListItemText, $_.ResultType, $_.ToolTip)
            }
        } else {
            if (-not $about) { $about = $value }
            [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $about)
        }
    }
}
